"""Enlarging pictures: the runs of a job, their figures and their files."""

import json
from dataclasses import dataclass
from time import perf_counter

import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from .. import TaylorSeerGuider, tiny
from ..engines.errors import UserError, explained
from ..engines.pictures import find_pictures, readable
from ..tiny.photographs import photograph
from .calibrations import default_config
from .figures import measure, sheet_panels, summary
from .job import Job, rehearse
from .pictures import contact_sheet, write_picture, write_text


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

    with explained("engine", "cannot prepare a run"):
        arguments = engine.arguments(small, seed)
    sampler.get_sigma_gen = shown_steps
    start = perf_counter()
    try:
        with torch.inference_mode(), explained("sampler_config", "its run failed"):
            picture = engine.picture(sampler(denoiser, **arguments), small)
    finally:
        del sampler.get_sigma_gen
    seconds, report = perf_counter() - start, guider.report.to_dict() if ours else None
    return Run(picture, calls, report["forecasts"] if ours else 0, seconds, report)


def load_report(path):
    """Figures of earlier commands in the same folder, by picture."""
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text()) if path.is_file() else None
        if not isinstance(known, dict):
            raise ValueError("holds no figures by picture")
        return known
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a report of this script ({error}); move it away or choose another --out-dir") from None


def sources(args, engine):
    """(name, uint8 (H, W, 3)) each: the pictures of --input-path, read as they are asked for, or the --photograph."""
    if args.input_path is None:
        return [(args.photograph, photograph(args.photograph))] if engine.takes_pictures else []
    if not engine.takes_pictures:
        raise UserError(f"--input-path {args.input_path}: this model is not conditioned on a picture; leave it out")
    factor = 1 if args.shrink_first else engine.factor
    return readable(find_pictures(args.input_path), factor)


def make_one(job, args, engine, name, small, original, seed):
    """Sample one picture and one seed, write the pictures, return the figures and the picture to look at."""
    sampler = job.sampler()
    compare = args.compare and isinstance(sampler.guider, TaylorSeerGuider)
    if compare:
        engine.warm_up(small)
    full = sample(engine, job.full_sampler(), small, seed, f"{name}, full run") if compare else None
    made = sample(engine, sampler, small, seed, name)
    figures = measure(made, full, engine, small, original)
    stem = f"{name}_{job.name}_seed{seed}"
    panels = sheet_panels(made, full, engine, small, original, figures)
    write_picture(args.out_dir / f"{stem}_sheet.png", contact_sheet(panels))
    if full is not None:
        write_picture(args.out_dir / f"{stem}_full.png", tiny.to_uint8(full.picture)[0].numpy())
    write_picture(args.out_dir / f"{stem}.png", tiny.to_uint8(made.picture)[0].numpy())
    return {**figures, "report": made.report}, args.out_dir / f"{stem}_sheet.png"


def prepare_folder(job, folder):
    """Make ``folder`` and write the job's config there. Returns the figures that it holds."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{job.name}.yaml", OmegaConf.to_yaml(job.config))
    except OSError as error:
        raise UserError(f"--out-dir {folder}: cannot be written ({error.strerror}); choose another") from None
    return load_report(folder / "report.json")


def sample_all(args):
    """Do what sample.py was asked for."""
    job = Job.of(args)
    if why := not args.config and default_config(args)[1]:
        print(f"{why}: no calibration ships for that, so these are forecasts without one")
    engine = job.engine()
    rehearse(job.sampler())
    pictures = sources(args, engine)
    figures, sheet = prepare_folder(job, args.out_dir), None
    for name, small, original in engine.inputs(pictures, args.shrink_first):
        for seed in args.seeds:
            key = f"{name}_{job.name}_seed{seed}.png"
            if (args.out_dir / key).exists() and not args.overwrite:
                print(f"{key}: there already, skipped (--overwrite makes it again)")
                sheet = args.out_dir / key.replace(".png", "_sheet.png")
                continue
            figures[key], sheet = make_one(job, args, engine, name, small, original, seed)
            write_text(args.out_dir / "report.json", json.dumps(figures, indent=1))
            print(f"{key}\n{summary(figures[key])}")
    print(f"dB and SSIM are of pictures as files hold them (8 bit); look at {sheet}")
