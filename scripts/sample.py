"""Enlarge pictures, with and without forecasts, and say what was saved and what it cost."""

import argparse
import json
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from command import Parser, exit_code
from configuration import GUIDERS, add_model_options, merged_config, run_name
from figures import measure, sheet_panels, summary
from omegaconf import OmegaConf
from pictures import UserError, contact_sheet, write_picture, write_text
from tqdm import tqdm

from taylorseer_guider import TaylorSeerGuider, tiny
from taylorseer_guider.standalone.config import get_obj_from_str, instantiate_from_config
from taylorseer_guider.tiny.photographs import HELD_OUT


def parse(argv):
    parser = Parser(prog="sample.py", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--guider", choices=GUIDERS, help="put this guider into the config; default: the config's own, or taylorseer")
    add("--config", type=Path, help="YAML with `engine` and `sampler_config`; default: the embedded model")
    add("--input-path", type=Path, help="a picture or a folder of them, to be enlarged; default: --photograph, shrunk first")
    add("--photograph", choices=HELD_OUT, default="coffee", help="one that the embedded model was not trained on")
    add("--shrink-first", action="store_true", help="take the input for the original: shrink it, restore it, compare")
    add("--out-dir", type=Path, default=Path("out"))
    add("--num-steps", type=int, help="steps of the schedule")
    add("--scale", type=float, help="guidance scale; 0 and 1 run one branch")
    add("--interval", type=int, help="call the denoiser at every N-th node")
    add("--calls", type=int, help="call it at this many nodes instead; with a calibration, one of its budgets")
    add("--max-order", type=int, help="order of the forecast")
    add("--seeds", "--seed", nargs="+", default=[0], metavar="SEED", help="one picture for each")
    add_model_options(add)
    add("--compare", action=argparse.BooleanOptionalAction, help="also make the full run; default: only without --input-path")
    add("--overwrite", action="store_true", help="make pictures again that are already there")
    add("overrides", nargs="*", metavar="key.path=value", help="anything else in the config")
    args = parser.parse_intermixed_args(argv)
    args.overrides += [word for word in args.seeds if "=" in str(word)]
    try:
        args.seeds = list(dict.fromkeys(int(word) for word in args.seeds if "=" not in str(word)))
    except ValueError:
        parser.error(f"--seeds {' '.join(map(str, args.seeds))}: give whole numbers")
    args.compare = args.input_path is None if args.compare is None else args.compare
    return args


@dataclass
class Run:
    """One picture made: (1, 3, H, W) in [-1, 1], and what that took."""

    picture: torch.Tensor
    calls: int
    forecasts: int
    seconds: float
    report: dict | None


def sample(engine, sampler, small, seed, label):
    """Run ``sampler`` once, showing calls and forecasts as it goes."""
    calls, guider, steps = 0, sampler.guider, sampler.get_sigma_gen
    ours = isinstance(guider, TaylorSeerGuider)

    def denoiser(*args, **kwargs):
        nonlocal calls
        calls += 1
        return engine.denoiser(*args, **kwargs)

    def shown_steps(num_sigmas):
        with tqdm(total=num_sigmas - 1, desc=label, unit="step", leave=False) as bar:
            for step in steps(num_sigmas):
                yield step
                bar.set_postfix(calls=calls, forecasts=guider.report.forecasts if ours else 0, refresh=False)
                bar.update()

    sampler.get_sigma_gen = shown_steps
    arguments, start = engine.arguments(small, seed), perf_counter()
    try:
        with torch.inference_mode():
            picture = engine.picture(sampler(denoiser, **arguments), small)
    finally:
        del sampler.get_sigma_gen
    seconds, report = perf_counter() - start, guider.report.to_dict() if ours else None
    return Run(picture, calls, report["forecasts"] if ours else 0, seconds, report)


def build(config, args):
    """The engine and a function that gives a fresh sampler, by default with the config's guider."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device; use --device cpu")
    if fixed := {"device", "dtype"} & (config.engine.get("params") or {}).keys():
        raise UserError(f"engine.params.{fixed.pop()}: leave it out of the config; --device and --dtype set both")
    plain = OmegaConf.to_container(config.engine, resolve=True)
    with building("engine"):
        if args.dtype == "auto":
            args.dtype = get_obj_from_str(plain["target"]).on_cuda if device == "cuda" else "float32"
        params = {**(plain.get("params") or {}), "device": device, "dtype": getattr(torch, args.dtype)}
        engine = instantiate_from_config({**plain, "params": params})

    def make_sampler(**guider_params):
        made = OmegaConf.to_container(config.sampler_config, resolve=True)
        made["params"]["device"] = device
        made["params"]["guider_config"]["params"].update(guider_params)
        with building("sampler_config"):
            return instantiate_from_config(made)

    return engine, make_sampler


@contextmanager
def building(key):
    """Turns what a config cannot be built from into a UserError."""
    try:
        yield
    except (AttributeError, ImportError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{key}: cannot be built ({error}); compare with the files in configs/") from None


def rehearse(sampler):
    """Make the schedule and its plan, so that a mistake in either is found before anything is written or run."""
    with building("sampler_config"):
        sigmas = sampler.discretization(sampler.num_steps, device="cpu")
    if isinstance(sampler.guider, TaylorSeerGuider):
        sampler.guider.begin(sigmas, sampler)
        sampler.guider.end()


def load_report(path):
    """Figures of earlier commands in the same folder, by picture."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path}: not a report of this script ({error}); move it away or choose another --out-dir") from None


def make_one(args, engine, make_sampler, name, small, original, seed, run):
    """Sample one picture and one seed, write the pictures, return the figures and the picture to look at."""
    sampler = make_sampler()
    compare = args.compare and isinstance(sampler.guider, TaylorSeerGuider)
    if compare:
        engine.warm_up(small)
    full = sample(engine, make_sampler(use_cache=False), small, seed, f"{name}, full run") if compare else None
    made = sample(engine, sampler, small, seed, name)
    figures = measure(made, full, engine, small, original)
    stem = f"{name}_{run}_seed{seed}"
    panels = sheet_panels(made, full, engine, small, original, figures)
    write_picture(args.out_dir / f"{stem}_sheet.png", contact_sheet(panels))
    if full is not None:
        write_picture(args.out_dir / f"{stem}_full.png", tiny.to_uint8(full.picture)[0].numpy())
    write_picture(args.out_dir / f"{stem}.png", tiny.to_uint8(made.picture)[0].numpy())
    return {**figures, "report": made.report}, args.out_dir / f"{stem}_sheet.png"


def sample_all(args):
    config = merged_config(args)
    engine, make_sampler = build(config, args)
    rehearse(make_sampler())
    run = run_name(config, args)
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        write_text(args.out_dir / f"{run}.yaml", OmegaConf.to_yaml(config))
    except OSError as error:
        raise UserError(f"--out-dir {args.out_dir}: cannot be written ({error.strerror}); choose another") from None
    report_path, sheet = args.out_dir / "report.json", None
    figures = load_report(report_path)
    for name, small, original in engine.inputs(args):
        for seed in args.seeds:
            key = f"{name}_{run}_seed{seed}.png"
            if (args.out_dir / key).exists() and not args.overwrite:
                print(f"{key}: there already, skipped (--overwrite makes it again)")
                sheet = args.out_dir / key.replace(".png", "_sheet.png")
                continue
            figures[key], sheet = make_one(args, engine, make_sampler, name, small, original, seed, run)
            write_text(report_path, json.dumps(figures, indent=1))
            print(f"{key}\n{summary(figures[key])}")
    print(f"look at {sheet}")


def main(argv=None):
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mistakes = (UserError, ValueError, FloatingPointError)
    return exit_code("sample.py", lambda: sample_all(args), mistakes, "finished pictures are kept")


if __name__ == "__main__":
    sys.exit(main())
