"""Where a forecast cannot be trusted, whoever would make it: the visit computes, and the log says why."""

import logging
import math

import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

logger = logging.getLogger(__name__)
REASONS = {  # for a call that nothing is remembered of, and what the log says of it, once a run
    "no run": "no run has begun for it through the shim (see taylorseer_guider.shim.attach)",
    "several runs": "several loops are open at once, and nothing tells whose visit it is (see sampler.get_sigma_gen)",
    "not gated": "the denoiser is not gated here (see taylorseer_guider.shim.attach)",
    "several outputs": "the denoiser returns something else than one tensor, and a forecast has nothing in its place",
    "gradients": "gradients are recorded, and a forecast has none; sample under torch.no_grad() to forecast",
    "no common sigma": "the samples of the batch are at different sigmas",
    "complex numbers": "x or the output is complex, and what is held and weighed is real",
    "wrapped": "x or the output is a tensor that wraps others, such as one that is spread over several machines",
    "infinite sigma": None,  # pure noise, where a schedule of alphas begins: nothing is wrong
    "zero sigma": None,  # a whole image, where one ends
    "tiled": "the sampler asks for several outputs at one sigma in one step, as for tiles, and history is that of one image",
    "not remembered": "the sampler goes by earlier answers, too, and it is not known what they were",
    "steps elsewhere": "steps were taken without this guider, and its history is of before",
    "another scale": "the guidance scale was changed in mid-run, and the calibration is for one scale",
    "another shape": "x changed its shape or device in mid-run, and the calibration is for one",
}
# all later visits of the run compute, too
STICKY = ("several runs", "not gated", "several outputs", "tiled", "another scale", "another shape")


class Trust:
    """Whether a run of ``guider`` may forecast: what was found against it, and of which x and guidance scale its history is."""

    def __init__(self, guider):
        self.lost = None  # of STICKY: why nothing is forecast any more
        self.said = set()  # what the log has of it
        self._guider, self._scale, self._like = guider, _scale_of(guider), None

    def doubt(self, reason):
        """Say once, of this run, why its visits compute; stay with it where it holds for the whole run."""
        if reason in STICKY:
            self.lost = reason
        say(reason, self.said)

    def changed(self, x):
        """Of ``REASONS``, why history does not serve a visit at ``x``; None where it does.

        It is that of another guidance scale, or of another shape or device, if these are not those of the visit before. The dtype
        may change: a host's own arithmetic widens x where the denoiser's outputs are wider.
        """
        like, scale = (x.shape, x.device), _scale_of(self._guider)
        other_scale, other_shape = _differ(scale, self._scale), self._like is not None and like != self._like
        self._like, self._scale = like, scale
        return "another scale" if other_scale else "another shape" if other_shape else None


def say(reason, said):
    """Have the log say why visits compute, unless the set ``said`` has it already."""
    if reason not in said and REASONS[reason]:
        every = reason in STICKY or reason == "no run"
        logger.warning("%s: %s", "every visit computes" if every else "a visit computes", REASONS[reason])
    said.add(reason)


def _scale_of(guider):
    """(the guidance scale, how often it was written into where it is a tensor)."""
    scale = getattr(guider, "scale", None)
    return scale, scale._version if torch.is_tensor(scale) and not scale.is_inference() else 0


def _differ(one, other):
    """Whether two of ``_scale_of`` are not known to be the same: no number of a tensor is read."""
    (now, written), (before, earlier) = one, other
    return written != earlier or (now is not before and (torch.is_tensor(now) or torch.is_tensor(before) or now != before))


def reason_to_call(x, sigma, gated):
    """Of ``REASONS``, why a visit at ``x`` and the float ``sigma`` must call the denoiser; None where it need not.

    ``gated``: the shim stands between the sampler and its denoiser.
    """
    if not gated:
        return "not gated"
    if why := unfit(x):
        return why
    if torch.is_grad_enabled() and x.requires_grad:
        return "gradients"
    if not 0 < sigma < math.inf:
        return {math.inf: "infinite sigma", 0: "zero sigma"}.get(sigma, "no common sigma")
    return None


def unfit(tensor):
    """Of ``REASONS``, why neither x nor an output that is this ``tensor`` can be weighed; None where it can."""
    if transformed(tensor):
        return "gradients"
    return "complex numbers" if tensor.is_complex() else "wrapped" if wrapped(tensor) else None


def wrapped(tensor):
    """Whether ``tensor`` is of a class that wraps others, such as a DTensor, which do not mix with plain ones."""
    return type(tensor) is not torch.Tensor and is_traceable_wrapper_subclass(tensor)


def transformed(tensor):
    """Whether ``torch.func`` or forward-mode differentiation follows ``tensor``: no number of it can be read, or none should."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor) or forward_ad._current_level >= 0
