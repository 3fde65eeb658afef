"""Checks of single values that a user gave: each names the value, what is allowed and the remedy, in one line."""

import math
import os
import reprlib
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real

import torch

from .files import first_line

HELD = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
WORDS = ("true", "false", "yes", "no", "on", "off", "none", "null")  # that YAML means something by, and no file's name


def finite_number(name, value, remedy):
    """Raise ValueError unless ``value`` is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not _is_finite(value):
        raise ValueError(f"{name}={brief(value)}: give a finite number; {quoted(value) or remedy}")


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can be
        return False


def positive_number(name, value, remedy):
    """Raise ValueError unless ``value`` is a finite number above 0."""
    finite_number(name, value, remedy)
    if value <= 0:
        raise ValueError(f"{name}={value!r}: give a number above 0; {remedy}")


def whole_number(name, value, least, remedy, most=math.inf):
    """Raise ValueError unless ``value`` is a whole number from ``least`` up, and ``most`` at most."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        wanted = f"of {most} at most" if whole and value > most else f"from {least} up"
        raise ValueError(f"{name}={brief(value)}: give a whole number {wanted}; {quoted(value) or remedy}")


def quoted(value):
    """What to do about a number that was given as a text, as YAML reads one in quotes, and 1e-3; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        float(value)
    except ValueError:
        return None
    return "this is a text: leave the quotes out, and write 1.0e-3 rather than 1e-3"


def misspelt(names, known):
    """The first of ``names`` that one of the words ``known`` was probably meant by, but is not; None where there is none."""
    return next((name for name in names if name not in known and get_close_matches(str(name), known)), None)


def plain(value):
    """``value``, or the number that an array or a tensor of no axes holds."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def brief(value):
    """``value`` as a person would be shown it, in a few words, however large it is."""
    return reprlib.repr(value)[:80]


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
    if "\0" in os.fsdecode(value):
        raise ValueError(f"{name}={value!r}: a path has no character 0; give {others}the path of a file")
    if os.fspath(value).lower() in WORDS:
        raise ValueError(f"{name}={value!r} is a text: write it without quotes, or give a path such as './{value}'")
    return os.fspath(value)


def same_scale(one, other):
    """Whether two guidance scales are one: equal numbers, or the very tensor of several, as a guider of video frames has."""
    return one is other or one == other


def largest(scale):
    """A guidance ``scale``; of a tensor of several, as video guiders have, the largest, a float."""
    return float(scale.max()) if torch.is_tensor(scale) and scale.numel() else scale


def step_indices(nodes):
    """``nodes``, None or whole numbers, rising and distinct. ValueError for anything else."""
    if nodes is None:
        return None
    remedy = "give a list of step indices such as [0, 3, 6, 9]"
    if isinstance(nodes, str) or not isinstance(nodes, Iterable):
        raise ValueError(f"plan.nodes={nodes!r}: {remedy}")
    try:
        nodes = tuple(nodes.tolist() if hasattr(nodes, "tolist") else nodes)
    except TypeError:  # an array of no axes
        raise ValueError(f"plan.nodes={nodes!r}: {remedy}") from None
    for index in nodes:
        whole_number("plan.nodes", index, 0, remedy)
    if not nodes:
        raise ValueError(f"plan.nodes=[]: no node would call the denoiser; {remedy}")
    return tuple(sorted(set(nodes)))


def dtype_of(dtype):
    """``dtype``, None or one by name, as torch's. ValueError for one in which nothing can be added up."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if found is None and dtype is None:
        return None
    if isinstance(found, torch.dtype) and found in HELD:
        return found
    raise ValueError(f"history.dtype={dtype!r}: give bfloat16, float16, float32 or float64, or leave it out")


def device_of(device):
    """``device``, None or one by name, as torch's. ValueError for one that this machine has not."""
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
        if found.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, TypeError, ValueError, OverflowError, AssertionError) as error:
        why = first_line(error)
        raise ValueError(f"history.device={brief(device)}: give a device of this machine such as cpu; {why}") from None
    return found
