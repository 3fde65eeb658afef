"""Checks of single values that a user gave: each names the value, what is allowed and the remedy, in one line."""

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real

import torch

from .files import first_line

WORDS = ("true", "false", "yes", "no", "on", "off", "none", "null")  # that YAML means something by, and no file's name


def finite_number(name, value, remedy):
    """Raise ValueError unless ``value`` is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r}: give a finite number; {remedy}")


def positive_number(name, value, remedy):
    """Raise ValueError unless ``value`` is a finite number above 0."""
    finite_number(name, value, remedy)
    if value <= 0:
        raise ValueError(f"{name}={value!r}: give a number above 0; {remedy}")


def whole_number(name, value, least, remedy):
    """Raise ValueError unless ``value`` is a whole number from ``least`` up."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number from {least} up; {remedy}")


def one_of(name, value, known):
    """Raise ValueError unless ``value`` is one of the words ``known``."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r}: choose one of {', '.join(known)}")


def path_of(name, value, others=""):
    """``value``, None or a path, as text. ValueError for what names no file; ``others`` says what else may be given."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{name}={value!r}: give {others}the path of a file")
    if os.fspath(value).lower() in WORDS:
        raise ValueError(f"{name}={value!r} is a text: write it without quotes, or give a path such as './{value}'")
    return os.fspath(value)


def same_scale(one, other):
    """Whether two guidance scales are one: equal numbers, or the very tensor of several, as a guider of video frames has."""
    return one is other or one == other


def step_indices(nodes):
    """``nodes``, None or whole numbers, rising and distinct. ValueError for anything else."""
    if nodes is None:
        return None
    remedy = "give a list of step indices such as [0, 3, 6, 9]"
    if isinstance(nodes, str) or not isinstance(nodes, Iterable):
        raise ValueError(f"plan.nodes={nodes!r}: {remedy}")
    try:
        nodes = tuple(nodes)
    except TypeError:  # an array of no axes
        raise ValueError(f"plan.nodes={nodes!r}: {remedy}") from None
    for index in nodes:
        whole_number("plan.nodes", index, 0, remedy)
    if not nodes:
        raise ValueError(f"plan.nodes=[]: no node would call the denoiser; {remedy}")
    return tuple(sorted(set(nodes)))


def dtype_of(dtype):
    """``dtype``, None or one by name, as torch's. ValueError for one that holds no fractions."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if found is not None and isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    if dtype is None:
        return None
    raise ValueError(f"history.dtype={dtype!r}: give a floating type such as bfloat16, float16 or float32, or leave it out")


def device_of(device):
    """``device``, None or one by name, as torch's. ValueError for one that this machine has not."""
    if device is None:
        return None
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"history.device={device!r}: give a device of this machine such as cpu; {first_line(error)}") from None
    return device
