"""The merged configuration of sample.py: YAML, then flags, then overrides; and the name that it gives to pictures."""

import zlib
from math import isfinite
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pictures import UserError

from taylorseer_guider.hosts import HOSTS
from taylorseer_guider.standalone.config import instantiate_from_config

ROOT = Path(__file__).resolve().parents[1]
OURS = "taylorseer_guider.TaylorSeerGuider"
GUIDERS = {"taylorseer": OURS, "vanilla": "VanillaCFG", "identity": "IdentityGuider"}
PATHS = {  # flags that name what an engine is built from: its parameters of the same name
    "infdit_root": "a checkout of Inf-DiT (git clone https://github.com/THUDM/Inf-DiT)",
    "network": "Inf-DiT's checkpoint (mp_rank_00_model_states.pt; the checkout's README links it)",
    "sgm_root": "a checkout of sgm (git clone https://github.com/Stability-AI/generative-models)",
    "ckpt": "an sgm model's weights (.safetensors or .ckpt)",
}


def add_model_options(add):
    """The options of every script that builds an engine; ``add`` is a parser's."""
    for name, meaning in PATHS.items():
        add(flag(name), type=Path, metavar="PATH", help=meaning)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    dtypes = ("auto", "float32", "bfloat16", "float16")
    add("--dtype", choices=dtypes, default="auto", help="auto: on a GPU the model's own, else float32")


def flag(name):
    return "--" + name.replace("_", "-")


def merged_config(args):
    """The YAML, with the flags and then the overrides on top."""
    path = args.config or ROOT / "configs" / f"tiny_{args.guider or 'taylorseer'}.yaml"
    if not path.is_file():
        raise UserError(f"--config {path}: no such file; configs/ has ready ones")
    config = load(path)
    if not OmegaConf.is_dict(config) or not {"engine", "sampler_config"} <= config.keys():
        raise UserError(f"--config {path}: needs the keys `engine` and `sampler_config`; configs/ has examples")
    sampler = config.sampler_config
    if args.config and (args.guider or not sampler.params.get("guider_config")):
        sampler.params.guider_config = swapped_guider(args.guider or "identity", sampler)
    if args.num_steps is not None:
        if args.num_steps < 1:
            raise UserError(f"--num-steps {args.num_steps}: give a whole number from 1 up")
        sampler.params.num_steps = args.num_steps
    guider = sampler.params.guider_config
    guider.params = guider.get("params") or {}
    beside = path.resolve().parent / str(guider.params.get("calibration"))
    if beside.is_file():
        guider.params.calibration = str(beside)
    if args.scale is not None and not isfinite(args.scale):
        raise UserError(f"--scale={args.scale}: give a finite number")
    if args.scale is not None and guider.target.endswith(".IdentityGuider"):
        raise UserError(f"--scale {args.scale}: the guider identity has none; choose --guider vanilla or taylorseer")
    for name in ("scale", "interval", "calls", "max_order"):
        value = getattr(args, name)
        if value is not None:
            if name != "scale" and guider.target != OURS:
                raise UserError(f"{flag(name)} {value}: only the guider taylorseer takes it")
            guider.params[name] = value
    for name in PATHS:
        if (value := getattr(args, name)) is not None:
            if name not in (config.engine.get("params") or {}).keys():  # `in` alone would miss those that are ???
                raise UserError(f"{flag(name)} {value}: {config.engine.target} takes none; leave it out")
            config.engine.params[name] = str(value.resolve())
    config = with_overrides(config, args.overrides)
    if missing := [key.rpartition(".")[2] for key in sorted(OmegaConf.missing_keys(config), reverse=True)]:
        remedies = [f"{flag(name)}, {PATHS[name]}" if name in PATHS else f"a value for {name}" for name in missing]
        raise UserError(f"{config.engine.target} lacks {', '.join(missing)}; give {'; and '.join(remedies)}")
    return config


def load(path):
    """The YAML file ``path``. UserError where it cannot be read."""
    try:
        return OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--config {path}: not YAML that can be read ({reason}); configs/ has examples") from None


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


def with_overrides(config, overrides):
    for override in overrides:
        key, equals, _ = override.partition("=")
        parent, node = "", config
        for part in key.split("."):
            known = node.keys() if OmegaConf.is_dict(node) else ()
            if not equals or (part not in known and parent != "params"):
                raise UserError(f"{override}: give key.path=value with a key of the config ({', '.join(known)} ...)")
            parent, node = part, node.get(part)
    try:
        return OmegaConf.merge(config, OmegaConf.from_dotlist(overrides))
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from None


def run_name(config, args):
    """Sampler, steps, guider and its settings; a digest stands for whatever else was changed."""
    sampler, guider = config.sampler_config, config.sampler_config.params.guider_config
    kind = next((kind for kind, name in GUIDERS.items() if guider.target.endswith(name)), "other")
    method = sampler.target.rpartition(".")[2].removesuffix("Sampler").removesuffix("EDM").lower()
    parts = [f"{method}{sampler.params.num_steps}", kind]
    if kind == "taylorseer":
        settings = instantiate_from_config(guider).settings
        plan = f"c{settings.calls}" if settings.calls else f"i{settings.interval}"
        parts.append(f"calibrated{settings.calls or ''}" if settings.calibration else f"{plan}o{settings.max_order}")
    if "scale" in guider.params:
        parts.append(f"s{guider.params.scale:g}")
    if args.dtype != "float32":
        parts.append(args.dtype)
    if args.overrides or args.config:
        everywhere = OmegaConf.to_yaml(config).replace(f"{ROOT}/", "")  # the same in every checkout
        parts.append(f"{zlib.crc32(everywhere.encode()):08x}")
    return "-".join(parts)
