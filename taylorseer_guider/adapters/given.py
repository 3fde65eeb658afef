"""What adapters are given: options, a guidance scale, sigmas. A mistake in them is one line, before anything is sampled."""

import math
from itertools import pairwise
from numbers import Real

import torch

from ..schedule import Schedule
from ..settings import OPTIONS, Settings, regrouped
from ..values import brief, largest, plain

TAKEN = tuple(name for name in OPTIONS if name not in ("calibration", "learn"))  # those two go with a sampler that the shim sees


def checked(options):
    """``options`` as Settings. ValueError for one that is unknown or out of range, or that an adapter has no use for."""
    options = regrouped(options)
    if unknown := [name for name in options if name not in TAKEN]:
        raise ValueError(f"unknown option {', '.join(map(str, unknown))}: an adapter takes {', '.join(TAKEN)}")
    return Settings(**options)


def known_scale(scale):
    """A guidance ``scale``, infinite where it is not known, the largest of several; ValueError for what is no number."""
    scale = plain(largest(scale))
    if isinstance(scale, str) or not isinstance(scale, Real) or math.isnan(scale):
        raise ValueError(f"scale={brief(scale)}: give the guidance scale, a number, or leave it out")
    return scale


def schedule_of(sigmas, stepping):
    """The Schedule of ``sigmas`` (n,), a tensor, an array or a list. ValueError where nothing can be forecast on it."""
    try:
        sigmas = torch.as_tensor(sigmas)
    except (TypeError, ValueError, RuntimeError):  # one that is read backwards, too
        try:
            sigmas = torch.tensor(list(sigmas))
        except (TypeError, ValueError, RuntimeError):
            sigmas = None
    if sigmas is None or sigmas.is_complex():
        raise ValueError("sigmas: not a list of numbers; give those of the sampler, as a tensor or a list")
    if sigmas.ndim != 1:
        raise ValueError(f"sigmas: {tuple(sigmas.shape)} is no schedule; give one number for each node, and the last")
    schedule = Schedule(sigmas, stepping.rising, stepping.visits)
    for sigma, following in pairwise(schedule.sigmas):
        if not math.inf > sigma > following >= 0:
            pair = f"sigmas={sigma:.4g}, {following:.4g}"
            raise ValueError(f"{pair}: give falling sigmas down to 0, finite, as the sampler walks them")
    if len(sigmas) < 2:
        raise ValueError(f"sigmas: {len(sigmas)} are no schedule; give those of the sampler, the last one included")
    return schedule
