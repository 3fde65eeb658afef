"""Where a forecast cannot be trusted, whoever would make it: the visit computes, and the log says why."""

import math

import torch
from torch.autograd import forward_ad

REASONS = {  # for a call that nothing is remembered of, and what the log says of it, once a run
    "no run": "no run has begun for it through the shim (see taylorseer_guider.shim.attach)",
    "several runs": "several loops are open at once, and nothing tells whose visit it is (see sampler.get_sigma_gen)",
    "not gated": "the denoiser is not gated here (see taylorseer_guider.shim.attach)",
    "gradients": "gradients are recorded, and a forecast has none; sample under torch.no_grad() to forecast",
    "no common sigma": "the samples of the batch are at different sigmas",
    "infinite sigma": None,  # pure noise, where a schedule of alphas begins: nothing is wrong
    "zero sigma": None,  # a whole image, where one ends
    "tiled": "the sampler asks for several outputs at one sigma in one step, as for tiles, and history is that of one image",
    "not remembered": "the sampler goes by earlier answers, too, and it is not known what they were",
    "another scale": "the guidance scale was changed in mid-run, and the calibration is for one scale",
    "another shape": "x changed its shape, dtype or device in mid-run, and the calibration is for one",
}
STICKY = ("several runs", "not gated", "tiled", "another scale", "another shape")  # all later visits of the run compute, too


def reason_to_call(x, sigma, gated):
    """Of ``REASONS``, why a visit at ``x`` and the float ``sigma`` must call the denoiser; None where it need not.

    ``gated``: the shim stands between the sampler and its denoiser.
    """
    if not gated:
        return "not gated"
    if (torch.is_grad_enabled() and x.requires_grad) or transformed(x):
        return "gradients"
    if not 0 < sigma < math.inf:
        return {math.inf: "infinite sigma", 0: "zero sigma"}.get(sigma, "no common sigma")
    return None


def transformed(tensor):
    """Whether ``torch.func`` or forward-mode differentiation follows ``tensor``: no number of it can be read, or none should."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor) or forward_ad._current_level >= 0
