"""Asking a host's own sampler for the denoiser's output at any x and sigma.

The sampler is started as its caller would and stopped at its first ``denoise``. What that method was called with, with another
x and sigma, gives the output there: no signature of any host is needed.
"""

import inspect
import threading
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial

import torch

from .. import loops
from ..policy import Everything
from ..values import same_scale
from ..visits import Gate


class Unasked(ValueError):
    """A sampler could not be asked: it has no arguments for that, or another thread has changed the guidance scale."""


class _Started(BaseException):
    """Ends a run at its first visit. Not an Exception, so that no host's own handler takes it for a fault."""


class Probe:
    """One run of ``sampler``, stopped at its start.

    ``x`` (B, ...) is what the sampler hands over at the first visit, ``sigmas`` (floats) its schedule, of ``dtype``. ``run``
    holds keyword arguments of the sampler's call; its tensors are copied, since samplers write into them. Its outputs are those
    at the guidance ``scale``; None is the guider's own. ValueError for a sampler that begins no run, or asks for no output.
    """

    def __init__(self, sampler, denoiser, run, seed, scale=None):
        self.sampler, self.scale = sampler, sampler.guider.scale if scale is None else scale
        self._at_scale = sampler.guider.at_scale
        self.sigmas = self.dtype = self._raw = None

        def recorded(*args, **kwargs):
            self._raw = denoiser(*args, **kwargs)
            return self._raw

        self._bound = _first_visit(sampler, recorded, run, seed, self._policy)
        if self.sigmas is None:
            name = type(sampler).__name__
            raise ValueError(f"{name} begins no run through the shim; call taylorseer_guider.shim.attach(sampler)")
        _require(self._bound.arguments, sampler, "x", "sigma")
        self.x, self._sigma = self._bound.arguments["x"].detach(), self._bound.arguments["sigma"]

    @classmethod
    def begun(cls, run, x, opening=None):
        """Of a ``run`` (a ``Run``) that its sampler made from ``x``: asks as that asked first, or as ``opening`` says.

        ``calls`` counts what it has asked.
        """
        probe, opening = cls.__new__(cls), opening or run.opening
        probe.sampler, probe.sigmas, probe.dtype = run.sampler, run.schedule.keys, x.dtype
        probe.x, probe.scale, probe.calls, probe._raw = x, run.guider.scale, 0, None
        probe._at_scale = partial(_unchanged, run.guider)  # other threads may be sampling with it
        _require(opening.arguments, run.sampler, "x", "denoiser", "sigma")
        gate, probe._sigma = opening.arguments["denoiser"], opening.arguments["sigma"]
        denoiser = gate.gated if isinstance(gate, Gate) else gate

        def recorded(*args, **kwargs):
            probe.calls += 1
            probe._raw = denoiser(*args, **kwargs)
            return probe._raw

        arguments = OrderedDict(opening.arguments) | {"denoiser": recorded}
        probe._bound = inspect.BoundArguments(opening.signature, OrderedDict(arguments))
        return probe

    def _policy(self, schedule, sampler, dtype):
        if self.sigmas is None:
            self.sigmas, self.dtype = schedule.keys, dtype
        return Everything("recorded")

    def denoise(self, x, sigma, branches):
        """The ``branches`` (1 or 2) of the output at ``x`` and ``sigma``, a number, uncond first: tensors of x's shape.

        Where one of the two requires a gradient, so do they, if the host lets it through. FloatingPointError for what is not
        finite.
        """
        guided, raw = self._ask(x, sigma)
        return [branch.clone() for branch in ([guided] if branches == 1 else raw.chunk(2))]

    def _ask(self, x, sigma):
        """(the guided output, the raw one)."""
        self._bound.arguments |= {"x": x.to(self.x.dtype), "sigma": torch.ones_like(self._sigma) * sigma}
        guider = self.sampler.guider
        with (
            self._at_scale(self.scale), loops.following(self._policy), loops.calling(self.sampler),
            torch.set_grad_enabled(x.requires_grad or getattr(sigma, "requires_grad", False)),
        ):  # fmt: skip
            loops.begin(guider, torch.tensor(self.sigmas, dtype=torch.float64, device="cpu"), self.sampler)
            guided = self.sampler.denoise(*self._bound.args, **self._bound.kwargs)
        raw, self._raw = self._raw, None
        if not torch.isfinite(guided).all():
            raise FloatingPointError(
                f"the guided output at sigma {sigma} is not finite; look at the denoiser's inputs there, its dtype (float16 "
                "overflows) and the guidance scale"
            )
        return guided, raw

    def opening(self, gradient):
        """(the guided output at the run's start, how many branches it has, whether it follows sigma), from one call.

        2 branches where it is uncond + scale (cond - uncond) of one doubled batch, else 1. ValueError where it has not x's shape,
        where the denoiser gives no one tensor, and where a ``gradient`` is wanted of it and there is none. One by sigma is none
        of a denoiser that looks sigma up.
        """
        x, sigma = self.x.clone().requires_grad_(gradient), torch.tensor(self.sigmas[0], dtype=torch.float64, device="cpu")
        guided, raw = self._ask(x, sigma.requires_grad_(gradient))
        if raw is not None and not torch.is_tensor(raw):
            raise ValueError(f"the denoiser returns a {type(raw).__name__}, and only one tensor can be fitted")
        by_x = by_sigma = None
        if guided.requires_grad:
            by_x, by_sigma = torch.autograd.grad(guided, (x, sigma), torch.ones_like(guided), allow_unused=True)
        if gradient and by_x is None:
            raise ValueError("refine: the denoiser lets no gradient through (torch.no_grad or inference_mode?); give refine=0")
        guided, raw, scale = guided.detach(), None if raw is None else raw.detach(), self.scale
        if guided.shape != self.x.shape:
            shapes = f"x is {tuple(self.x.shape)}, the output {tuple(guided.shape)}"
            raise ValueError(f"{shapes}: only outputs of x's shape can be fitted")
        if raw is None or raw.shape[0] != 2 * guided.shape[0] or raw.shape[1:] != guided.shape[1:]:
            return guided, 1, by_sigma is not None
        rounding = 8 * torch.finfo(raw.dtype).eps * (1 + abs(float(scale))) * float(raw.abs().max())
        ours = self.guided(raw.chunk(2))
        told = torch.allclose(ours, guided.to(ours.dtype), rtol=0, atol=rounding)
        return guided, 2 if told else 1, by_sigma is not None

    def guided(self, branches):
        """The guided output of the ``branches`` that ``denoise`` gave, in float32 or wider where there are two."""
        if len(branches) == 1:
            return branches[0]
        uncond, cond = (branch.to(torch.promote_types(branch.dtype, torch.float32)) for branch in branches)
        return uncond + self.scale * (cond - uncond)


@contextmanager
def _unchanged(guider, scale):
    """Within, ``guider`` has the ``scale`` that it has. Unasked where that is another one, or becomes one."""
    _require_scale(guider, scale)
    yield
    _require_scale(guider, scale)


def _require_scale(guider, scale):
    if not same_scale(guider.scale, scale):
        raise Unasked(f"the guidance scale was changed meanwhile, from {scale} to {guider.scale}")


def _require(arguments, sampler, *names):
    """Raise Unasked where the ``arguments`` of ``sampler``'s `denoise` have not the ``names`` by which it is asked."""
    for name in names:
        if name not in arguments:
            raise Unasked(f"`denoise` of {type(sampler).__name__} has no argument {name!r}, by which it is asked")


def _first_visit(sampler, denoiser, run, seed, policy):
    """Arguments of the first ``denoise`` of ``sampler(denoiser, **run)``, bound to its parameters."""
    method, found, own = sampler.denoise, [], getattr(sampler, "__dict__", {}).get("denoise")
    here = threading.get_ident()

    def stop(*args, **kwargs):
        if threading.get_ident() != here:  # a picture that another thread makes with this sampler
            return method(*args, **kwargs)
        found.append(inspect.signature(method).bind(*args, **kwargs))
        raise _Started

    sampler.denoise = stop
    try:
        with loops.following(policy), seeded(seed), torch.no_grad():
            sampler(denoiser, **copied(run))
    except _Started:
        return found[0]
    finally:
        del sampler.denoise
        if own is not None:
            sampler.denoise = own
    raise ValueError(f"{type(sampler).__name__} ran to its end without asking for an output through `denoise`")


@contextmanager
def seeded(seed):
    """Random numbers as after ``torch.manual_seed(seed)``, and afterwards as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def copied(value):
    """``value`` with its tensors cloned, inside dictionaries, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return type(value)(copied(item) for item in value) if type(value) in (list, tuple) else value
