"""What a result is made from, as digests: the picture, the config, the calibration, the checkpoint."""

import hashlib
import json
from pathlib import Path

from ..engines.config import resolved
from .command import PATHS

CHUNK = 1 << 20  # bytes


def digest(chunks):
    """Of an iterable of bytes."""
    found = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()


def digest_of_file(path):
    with Path(path).open("rb") as file:
        return digest(iter(lambda: file.read(CHUNK), b""))


def _is_file(name, value):
    """Whether the parameter ``name`` of an engine is a path: one that is known to be, or absolute, and there."""
    return isinstance(value, str) and (name in (*PATHS, "weights") or Path(value).is_absolute()) and Path(value).exists()


def origin(job, engine):
    """What every result of ``job`` is made from. Paths are not part of it: a file or a checkout may be moved."""
    config = resolved(job.config)
    guider, params = config["sampler_config"]["params"]["guider_config"]["params"], config["engine"].get("params") or {}
    calibration = guider.pop("calibration", None)
    there = [name for name, value in params.items() if _is_file(name, value)]
    files = [path for path in (Path(params.pop(name)) for name in there) if path.is_file()]
    files = files or [path for path in [getattr(engine, "weights", None)] if path]  # those that the engine takes by itself
    return {
        "config": digest([json.dumps(config, sort_keys=True, default=str).encode()]),
        "calibration": calibration and digest_of_file(calibration),
        "checkpoint": digest(digest_of_file(path).encode() for path in files) if files else None,
        "dtype": job.dtype,
    }
