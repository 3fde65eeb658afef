"""What a user may set, and the checks that turn a mistake into one clear line at construction."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real

import torch

from .forecast import BASES, COORDINATES, QUANTITIES

REPEATS = ("reuse", "later", "compute")
AUTO = "auto"  # the quantity that suits the sampler and the plan, the coordinate that suits the quantity


@dataclass(frozen=True)
class Settings:
    """The forecasting options of a guider, checked. Dtypes and devices may be given by name, sequences in any form."""

    use_cache: bool = True
    interval: int = 2
    max_order: int = 1
    warmup: int = 1
    tail: int = 0
    activate: tuple[int, ...] | None = None
    step_threshold: float | None = None
    tolerance: float | None = None
    max_skip: int = 3
    repeat_visits: str = "reuse"
    coordinate: str = AUTO
    basis: str = "newton"
    quantity: str = AUTO
    calibration: str | None = None
    calls: int | None = None
    history_dtype: torch.dtype | None = None
    history_device: torch.device | None = None

    def __post_init__(self):
        if not isinstance(self.use_cache, bool):
            raise ValueError(f"use_cache={self.use_cache!r}: give true or false; false is the host's own guider")
        _whole("interval", self.interval, 1, "1 calls the denoiser at every node, 3 at every third")
        _whole("max_order", self.max_order, 0, "0 reuses the newest output, 1 draws a line through two")
        _whole("warmup", self.warmup, 0, "how many of the first nodes always call the denoiser")
        _whole("tail", self.tail, 0, "how many of the last nodes always call the denoiser")
        _one_of("repeat_visits", self.repeat_visits, REPEATS)
        _one_of("coordinate", self.coordinate, (AUTO, *COORDINATES))
        _one_of("basis", self.basis, BASES)
        _one_of("quantity", self.quantity, (AUTO, *QUANTITIES))
        if self.step_threshold is not None:
            positive_number("step_threshold", self.step_threshold, "a distance in sigma beyond which a node is activated")
        _whole("max_skip", self.max_skip, 1, "how many nodes in a row `tolerance` may forecast")
        if self.tolerance is not None:
            positive_number("tolerance", self.tolerance, "the error up to which a node is forecast, such as 0.2")
        if self.calls is not None:
            _whole("calls", self.calls, 1, "how many nodes call the denoiser")
        given = [name for name in ("activate", "tolerance", "calls") if getattr(self, name) is not None]
        if self.calibration is None and len(given) > 1:
            raise ValueError(f"{', '.join(f'{name}={getattr(self, name)!r}' for name in given)}: each plans the calls; leave one")
        self._set("calibration", _path("calibration", self.calibration))
        self._set("activate", _indices(self.activate))
        self._set("history_dtype", _dtype(self.history_dtype))
        self._set("history_device", _device(self.history_device))

    def quantity_on(self, noisy):
        """The quantity to forecast on a sampler that adds noise on the way (``noisy``), or on one that adds none.

        Where x is small noise on an image, v follows x closest: nearest if calls are where outputs turn, but what noise is left
        between calls that are too far apart there stays as grain. edm is safer where nobody looked where they turn.
        """
        if self.quantity != AUTO:
            return self.quantity
        if noisy:
            return "denoised"
        return "edm" if self.calls is None and self.tolerance is None else "v"

    def coordinate_of(self, quantity):
        """The coordinate to forecast ``quantity`` in."""
        if self.coordinate != AUTO:
            return self.coordinate
        return "asinh" if quantity == "v" else "rho"

    def _set(self, name, value):
        object.__setattr__(self, name, value)


def finite_number(name, value, remedy):
    """Raise ValueError unless ``value`` is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r}: give a finite number; {remedy}")


def positive_number(name, value, remedy):
    """Raise ValueError unless ``value`` is a finite number above 0."""
    finite_number(name, value, remedy)
    if value <= 0:
        raise ValueError(f"{name}={value!r}: give a number above 0; {remedy}")


def _whole(name, value, least, remedy):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number from {least} up; {remedy}")


def _one_of(name, value, known):
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r}: choose one of {', '.join(known)}")


def _path(name, value):
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{name}={value!r}: give the path of a file")
    return os.fspath(value)


def _indices(activate):
    if activate is None:
        return None
    remedy = "give a list of step indices such as [0, 3, 6, 9]"
    if isinstance(activate, str) or not isinstance(activate, Iterable):
        raise ValueError(f"activate={activate!r}: {remedy}")
    activate = tuple(activate)
    for index in activate:
        _whole("activate", index, 0, remedy)
    if not activate:
        raise ValueError(f"activate=[]: no node would call the denoiser; {remedy}")
    return tuple(sorted(set(activate)))


def _dtype(dtype):
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if found is not None and isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    if dtype is None:
        return None
    raise ValueError(f"history_dtype={dtype!r}: give a floating type such as bfloat16, float16 or float32, or leave it out")


def _device(device):
    if device is None:
        return None
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        message = str(error).splitlines()[0]
        raise ValueError(f"history_device={device!r}: give a device of this machine such as cpu; {message}") from None
    return device
