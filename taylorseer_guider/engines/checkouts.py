"""Host code in a checkout and the weights of its models: found and loaded, or one line that says what is missing."""

import importlib
import os
import pickle
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .errors import UserError

PIP_NAMES = {"sat": "SwissArmyTransformer", "open_clip": "open_clip_torch", "cv2": "opencv-python"}
LISTED = 4  # keys in a message


def imported(root, module, flag, repository):
    """``module`` of the checkout ``root``, which goes on the path. UserError where either is not what it should be."""
    root = Path(root).resolve()
    if not (root / (module.replace(".", "/") + ".py")).is_file():
        raise UserError(f"{flag} {root}: no {module} there; git clone https://github.com/{repository} and name that folder")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{flag} {root}: its {module} needs {lacking(error)}") from None


def lacking(error):
    """What an ImportError lacks, and how to get it."""
    package = (error.name or "").split(".")[0]
    return f"the package {package}; pip install {PIP_NAMES.get(package, package)}" if package else f"more ({error})"


@contextmanager
def offline():
    """A context in which no hub is asked for weights: what is not in its cache is an error."""
    before, constants = os.environ.get("HF_HUB_OFFLINE"), sys.modules.get("huggingface_hub.constants")
    os.environ["HF_HUB_OFFLINE"] = "1"
    if constants:
        asked, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        del os.environ["HF_HUB_OFFLINE"]
        if before is not None:
            os.environ["HF_HUB_OFFLINE"] = before
        if constants:
            constants.HF_HUB_OFFLINE = asked


def read_weights(path, flag, key):
    """{name: tensor} of a .safetensors file, or the entry ``key`` of a torch file, from which no code is run."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{flag} {path}: no such file; check the spelling")
    try:
        return load_file(path) if path.suffix == ".safetensors" else _read_torch(path)[key]
    except KeyError:
        raise UserError(f"{flag} {path}: holds no entry `{key}`; this is another kind of checkpoint") from None
    except (pickle.UnpicklingError, RuntimeError, SafetensorError, EOFError, TypeError) as error:
        if found := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error)):
            remedy = f'if you trust it, torch.save({{"{key}": torch.load(FILE, weights_only=False)["{key}"]}}, NEW) once'
            raise UserError(f"{flag} {path}: holds more than tensors ({found[1]}); {remedy}") from None
        raise UserError(f"{flag} {path}: not a checkpoint that can be read; get it again") from None


def _read_torch(path):
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)  # torch 2.2 maps no Path
    except RuntimeError:  # written before torch 1.6: cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True)


def load_weights(net, weights, source, remedies, may_lack=(), may_hold_more=False):
    """Fill ``net``. UserError that lists the keys that are missing, unexpected or of another shape, with a remedy.

    ``remedies`` is {start of a key: what to do}, "" for any key; keys that start with one of ``may_lack`` may be missing.
    """
    wanted = net.state_dict()
    missing = [key for key in wanted if key not in weights and not key.startswith(tuple(may_lack))]
    unexpected = [] if may_hold_more else [key for key in weights if key not in wanted]
    other = [key for key in wanted if key in weights and wanted[key].shape != weights[key].shape]
    shapes = [f"{key} {tuple(weights[key].shape)} for {tuple(wanted[key].shape)}" for key in other]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(faults.values()):
        said = "; ".join(f"{len(keys)} keys {what} ({listed(keys)})" for what, keys in faults.items() if keys)
        first = [*missing, *unexpected, *other][0]
        remedy = next(remedies[start] for start in sorted(remedies, key=len, reverse=True) if first.startswith(start))
        raise UserError(f"{source}: {said}; {remedy}")
    net.load_state_dict(weights, strict=False)


def listed(keys):
    return ", ".join(keys[:LISTED]) + (" ..." if len(keys) > LISTED else "")
