"""The merged configuration of a command: YAML, then flags, then overrides; and the name that it gives to pictures."""

import inspect
import zlib
from math import isfinite

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import TaylorSeerGuider
from ..engines.config import MOST_STEPS, check_shape, check_steps, load_config
from ..engines.errors import UserError
from ..files import first_line
from ..hosts import HOSTS
from .calibrations import calibrated, default_config, refuse_overridden
from .command import CONFIGS, GUIDERS, OURS, PATHS, flag, near

SAMPLER, GUIDER = "sampler_config.params", "sampler_config.params.guider_config.params"
FLAGS = (  # (flag, the key of the config that it overrides)
    ("num_steps", f"{SAMPLER}.num_steps"),
    *((name, f"{GUIDER}.{name}") for name in ("scale", "interval", "calls", "max_order")),
    *((name, f"engine.params.{name}") for name in PATHS),
)


def merged_config(args):
    """The YAML, with the flags and then the overrides on top; read-only."""
    kind = getattr(args, "guider", None)
    config = load_config(args.config or default_config(args)[0])
    put_guider(config, kind if args.config else None)
    config = calibrated(config, args)
    given = [(name, key, getattr(args, name, None)) for name, key in FLAGS]
    given = [(name, key, value) for name, key, value in given if value is not None]
    for name, _, value in given:
        check_flag(config, name, value)
    config = OmegaConf.merge(config, *(nested(key, plain(value)) for _, key, value in given))
    config = with_overrides(config, args.overrides)
    check_shape(config)
    put_guider(config, None)
    refuse_overridden(config, args)
    if missing := [key.rpartition(".")[2] for key in sorted(OmegaConf.missing_keys(config), reverse=True)]:
        remedies = [f"{flag(name)}, {PATHS[name]}" if name in PATHS else f"a value for {name}" for name in missing]
        raise UserError(f"{config.engine.target} lacks {', '.join(missing)}; give {'; and '.join(remedies)}")
    check_steps(config)
    OmegaConf.set_readonly(config, True)
    return config


def put_guider(config, kind):
    """Put the guider ``kind`` into ``config``; where None is asked for, its own stays, and one that has none gets identity."""
    sampler = config.sampler_config
    sampler.params = sampler.get("params") or {}
    if kind or not sampler.params.get("guider_config"):
        sampler.params.guider_config = swapped_guider(kind or "identity", sampler)
    guider = sampler.params.guider_config
    guider.params = guider.get("params") or {}


def swapped_guider(kind, sampler):
    """``{target, params}`` of the guider ``kind`` in the host that ``sampler`` belongs to, at the scale it had.

    A guider of another kind (sgm's LinearPredictionGuider) is wrapped, so that it goes on combining the branches.
    """
    old = sampler.params.get("guider_config") or {}
    scale = (old.get("params") or {}).get("scale", 1.0)
    if kind == "taylorseer":
        name = old.get("target", "IdentityGuider").rpartition(".")[2]
        if old.get("target") == OURS:
            return old
        return {"target": OURS, "params": {"scale": scale} if name in GUIDERS.values() else {"guider_config": old}}
    host = next((host for host in HOSTS if sampler.target.startswith(host.sampling)), None)
    if host is None:
        raise UserError(f"--guider {kind}: {sampler.target} is of no known host; name its guider in the config")
    return {"target": f"{host.guiders}.{GUIDERS[kind]}", "params": {"scale": scale} if kind == "vanilla" else {}}


def check_flag(config, name, value):
    """Raise UserError where ``config`` has nothing that the flag ``name`` could set to ``value``."""
    guider, engine = config.sampler_config.params.guider_config, config.engine
    if name == "num_steps" and not 1 <= value <= MOST_STEPS:
        raise UserError(f"--num-steps {value}: give a whole number from 1 to {MOST_STEPS}")
    if name == "scale" and not isfinite(value):
        raise UserError(f"--scale={value}: give a finite number")
    if name == "scale" and guider.target.endswith(".IdentityGuider"):
        raise UserError(f"--scale {value}: the guider identity has none; choose --guider vanilla or taylorseer")
    if name in ("interval", "calls", "max_order") and guider.target != OURS:
        raise UserError(f"{flag(name)} {value}: only the guider taylorseer takes it")
    known = list(engine.get("params") or {})  # `in` alone would miss those that are ???
    if name in PATHS and name not in known:
        raise UserError(f"{flag(name)} {value}: {engine.target} takes none; leave it out")


def plain(value):
    """The value of a flag as a config holds it: a path in full, and as text."""
    return value if isinstance(value, (int, float)) else str(value.resolve())


def nested(key, value):
    """``{"a": {"b": value}}`` for the key ``a.b``."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def with_overrides(config, overrides):
    """``config`` with ``key.path=value`` words on top. UserError for a key that it has not, or a value that is no YAML."""
    try:
        for override in overrides:
            check_key(config, override)
        return OmegaConf.merge(config, OmegaConf.from_dotlist(overrides))
    except UserError:
        raise
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{' '.join(overrides)}: {first_line(error)}") from None


def check_key(config, override):
    key, equals, _ = override.partition("=")
    parent, node = "", config
    for part in key.split("."):
        known = node.keys() if OmegaConf.is_dict(node) else ()
        if equals and parent == "params" and part not in known:
            return  # what is built with it says whether it is known
        if not equals or part not in known:
            listed = f"give key.path=value with a key of the config ({', '.join(map(str, known))} ...)"
            raise UserError(f"{override}: {listed}{meant(override, part, known)}")
        parent, node = part, node.get(part) if OmegaConf.is_dict(node) else None


def meant(override, part, known):
    """What ``override`` was probably meant to be, as the end of a message: a flag, or another key in the place of ``part``."""
    key, _, value = override.partition("=")
    if name := near(key.lstrip("-").replace("-", "_"), [name for name, _ in FLAGS]):
        return f"; did you mean {flag(name)} {value}?" if value else f"; did you mean {flag(name)}?"
    found = near(part, map(str, known))
    return f"; did you mean {found}?" if found else ""


def run_name(config, dtype, changed):
    """Sampler, steps, guider and its settings; a digest stands for whatever else was ``changed``."""
    sampler, guider = config.sampler_config, config.sampler_config.params.guider_config
    kind = next((kind for kind, name in GUIDERS.items() if guider.target.endswith(name)), "other")
    parts = [steps_name(sampler), kind]
    if kind == "taylorseer":
        parts.append(plan_name(guider.params))
    if "scale" in guider.params:
        parts.append(f"s{guider.params.scale:g}")
    if dtype != "float32":
        parts.append(dtype)
    if changed:
        everywhere = OmegaConf.to_yaml(config).replace(f"{CONFIGS.parent}/", "")  # the same wherever it is installed
        parts.append(f"{zlib.crc32(everywhere.encode()):08x}")
    return "-".join(parts)


def steps_name(sampler):
    """The method of a ``sampler_config`` and its number of steps, in short."""
    method = sampler.target.rpartition(".")[2].removesuffix("Sampler").removesuffix("EDM").lower()
    return f"{method}{sampler.params.num_steps}"


def plan_name(params):
    """Which nodes a guider with ``params`` calls, in short."""
    options = inspect.signature(TaylorSeerGuider).parameters
    names = ("calls", "interval", "max_order", "calibration")
    calls, interval, order, calibration = (params.get(name, options[name].default) for name in names)
    if calibration:
        return f"calibrated{calls or ''}"
    plan = f"c{calls}" if calls else f"i{interval}" if interval else "half"
    return plan + ("" if order is None else f"o{order}")
