"""Configs of a model and its sampler: read within limits, checked at every level, and built.

A config holds ``engine`` and ``sampler_config``, each ``{target, params}``. It is code: ``target`` imports and calls whatever it
names, as in the hosts. What is wrong in one is a UserError that names the key.
"""

import math
from numbers import Real
from pathlib import Path

import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..files import LONGEST, first_line
from ..standalone.config import get_obj_from_str, instantiate_from_config
from ..values import misspelt
from .errors import UserError, explained

LARGEST_FILE = 1 << 20  # bytes
MOST_VALUES = 100_000  # with aliases and interpolations written out
MOST_STEPS = 10_000
ENGINE = "arguments", "denoiser", "factor", "inputs", "peak", "picture", "shown", "takes_pictures", "warm_up"  # asked of one
SAMPLER = ("denoise", "discretization", "get_sigma_gen", "guider", "num_steps")
GUIDER = ("prepare_inputs",)
UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, TypeError, RecursionError)


def load_config(path):
    """The YAML file ``path``, its shape checked. The name of a calibration that lies beside it becomes that file's path."""
    path = Path(path)
    try:
        config = _read(path)
    except UserError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:LONGEST]
        raise UserError(f"--config {path}: not YAML that can be read ({reason}); configs/ has examples") from None
    if not OmegaConf.is_dict(config) or not {"engine", "sampler_config"} <= config.keys():
        raise UserError(f"--config {path}: needs the keys `engine` and `sampler_config`; configs/ has examples")
    check_shape(config)
    find_calibration(config, path.resolve().parent)
    return config


def _read(path):
    """What the YAML file ``path`` holds, unless that would not fit in memory."""
    if not path.is_file():
        why = "not a regular file; save the YAML to one" if path.exists() else "no such file; configs/ has ready ones"
        raise UserError(f"--config {path}: {why}")
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"--config {path}: larger than {LARGEST_FILE >> 20} MiB, so not a config; configs/ has examples")
    text = path.read_text(encoding="utf-8")
    if written_out(yaml.compose(text, Loader=yaml.SafeLoader), {}) > MOST_VALUES:
        raise UserError(f"--config {path}: holds more than {MOST_VALUES} values with its aliases written out; use fewer")
    return OmegaConf.create(text)


def find_calibration(config, folder):
    """Turn the name of a calibration in ``folder`` into the path of that file."""
    guider = (config.sampler_config.get("params") or {}).get("guider_config") or {}
    params = guider.get("params") or {}
    if isinstance(name := params.get("calibration"), str) and (folder / name).is_file():
        params.calibration = str(folder / name)


def written_out(node, known):
    """How many values a YAML ``node`` holds where every alias is written out; infinitely many where one holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in children for child in pair]
        known[id(node)] = 1 + sum(written_out(child, known) for child in children)
    return known[id(node)]


def resolved(config):
    """``config`` as plain dictionaries and lists, with interpolations written out; what is missing stays ``???``."""
    count = 0

    def plain(parent, key):
        nonlocal count
        count += 1
        if count > MOST_VALUES:
            raise UserError(f"the config holds more than {MOST_VALUES} values with its interpolations written out; use fewer")
        node = "???" if OmegaConf.is_missing(parent, key) else parent[key]
        if OmegaConf.is_dict(node):
            return {key: plain(node, key) for key in node}
        return [plain(node, n) for n in range(len(node))] if OmegaConf.is_list(node) else node

    try:
        return {key: plain(config, key) for key in config}
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"the config has an interpolation that cannot be resolved ({first_line(error)}); correct it") from None


def check_shape(config):
    """Raise UserError, naming the key, where a level of ``config`` is not of the kind that belongs there."""
    plain = resolved(config)
    for key in ("engine", "sampler_config"):
        _check_part(key, plain[key])
    sampler = plain["sampler_config"].get("params") or {}
    for name in ("discretization_config", "guider_config"):
        if sampler.get(name) or not isinstance(sampler.get(name), (dict, type(None))):
            _check_part(f"sampler_config.params.{name}", sampler[name])
    guider = (sampler.get("guider_config") or {}).get("params") or {}
    scale, key = guider.get("scale", 1), "sampler_config.params.guider_config.params"
    if isinstance(scale, bool) or not isinstance(scale, Real) or not math.isfinite(scale):
        raise UserError(f"{key}.scale={_short(scale)}: give a finite number")
    calibration = guider.get("calibration")
    if isinstance(calibration, str) and Path(calibration).exists() and not Path(calibration).is_file():
        raise UserError(f"{key}.calibration={_short(calibration)}: not a regular file; give the path of a file")


def check_steps(config):
    """Raise UserError where ``sampler_config`` does not say how many steps to take."""
    steps = config.sampler_config.params.get("num_steps")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise UserError(f"sampler_config.params.num_steps={_short(steps)}: give a whole number from 1 to {MOST_STEPS}")


def _check_part(key, part):
    """Raise UserError where ``part`` is not ``{target, params}``."""
    if not isinstance(part, dict):
        raise UserError(f"{key}={_short(part)}: give a mapping with `target` and `params`; configs/ has examples")
    if (unknown := misspelt(part, ("target", "params"))) is not None:
        raise UserError(f"{key}.{unknown}: unknown entry; a part of a config has `target` and `params`")
    target, params = part.get("target"), part.get("params")
    if not isinstance(target, str) or "." not in target.strip("."):
        raise UserError(f"{key}.target={_short(target)}: give the dotted name of a class, such as package.module.Class")
    if not isinstance(params, (dict, type(None))) or not all(isinstance(name, str) for name in params or ()):
        raise UserError(f"{key}.params={_short(params)}: give a mapping of parameters by name; configs/ has examples")


def build_engine(config, device="cpu", dtype="float32"):
    """The engine of ``config`` on ``device`` with weights of ``dtype``, a name."""
    engine = resolved(config)["engine"]
    params = engine.get("params") or {}
    if fixed := {"device", "dtype"} & params.keys():
        raise UserError(f"engine.params.{fixed.pop()}: leave it out of the config; --device and --dtype set both")
    with explained("engine"):
        built = instantiate_from_config({**engine, "params": {**params, "device": device, "dtype": getattr(torch, dtype)}})
    return _whole("engine", engine["target"], built, ENGINE)


def usual_dtype(config, device):
    """Name of the dtype that the engine of ``config`` runs in on ``device`` where none is asked for."""
    if device != "cuda":
        return "float32"
    with explained("engine"):
        return get_obj_from_str(config.engine.target).on_cuda


def build_sampler(config, device="cpu", **guider_params):
    """The sampler of ``config``, with ``guider_params`` over those of its guider."""
    sampler = resolved(config)["sampler_config"]
    params = {**(sampler.get("params") or {}), "device": device}
    if guider := params.get("guider_config"):
        params["guider_config"] = {**guider, "params": {**(guider.get("params") or {}), **guider_params}}
    with explained("sampler_config"):
        built = instantiate_from_config({**sampler, "params": params})
    _whole("sampler_config", sampler["target"], built, SAMPLER)
    _whole("sampler_config.params.guider_config", type(built.guider).__name__, built.guider, GUIDER)
    return built


def _whole(key, target, built, names):
    """``built``, if it has all of ``names``."""
    if lacking := [name for name in names if not hasattr(built, name)]:
        raise UserError(f"{key}: {target} has no {', '.join(lacking)}, so it cannot be used here; compare with configs/")
    return built


def _short(value):
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."
