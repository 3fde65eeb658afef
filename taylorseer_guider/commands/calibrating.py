"""Calibrating a job's sampler on crops of pictures, and measuring a calibration on crops of others."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import Calibration, calibrate, tiny
from ..engines.errors import UserError, explained
from ..engines.pictures import find_pictures, readable
from ..settings import DECIDED, OPTIONS, Settings, regrouped
from ..tiny.photographs import HELD_OUT, TRAINING, photograph
from .figures import psnr
from .job import Job, rehearse
from .results import require_folder_of

BUDGETS = 5, 6, 8, 10, 13
EXACT_STEPS = 100  # of the host's own sampler, taken for the exact solution


def pictures(args):
    """(to fit on, to measure on): uint8 arrays. Of a folder, every fifth picture is measured on; of fewer than five, all."""
    if args.input_path is None:
        return [photograph(name) for name in TRAINING], [photograph(name) for name in HELD_OUT]
    found = [image for _, image in readable(find_pictures(args.input_path))]
    return (found, found) if len(found) < 5 else ([image for i, image in enumerate(found) if i % 5 != 4], found[4::5])


def crops(images, count, sizes, factor, rng):
    """``count`` crops of ``sizes`` in turn, taken from the images in turn and shrunk: (1, 3, h, w) each."""
    for n in range(count):
        size = sizes[n % len(sizes)] // factor * factor
        large = [image for image in images if min(image.shape[:2]) >= size]
        if not size or not large:
            least = f"give a --crop or --check-crop of {factor} or more: pictures are shrunk {factor} times"
            why = "give a smaller --crop or --check-crop, or larger pictures" if size else least
            raise UserError(f"no picture is {size} pixels high and wide; {why}")
        image = large[n % len(large)]
        top, left = (int(rng.integers(length - size + 1)) for length in image.shape[:2])
        yield tiny.shrink(tiny.from_uint8(image[top : top + size, left : left + size].copy())[None], factor)


def measured(job, engine, path, budgets, smalls, seed):
    """Rows (calls, dB to the full run, to the exact solution, and of `calls` alone to that): each but calls (mean, worst).

    The first is the full run's own, in which the second and the last are None.
    """

    def run(label, sampler, **more):
        found = []
        for n, small in enumerate(tqdm(smalls, desc=label, leave=False)):
            with torch.inference_mode():
                x = sampler(engine.denoiser, **engine.arguments(small, seed + n), **more)
            found.append(engine.picture(x, small))
        return found

    baseline = job.full_sampler()
    exact, full = run("exact solution", baseline, num_steps=EXACT_STEPS), run("full run", baseline)
    yield baseline.guider.report.calls, None, both(full, exact), None
    for calls in budgets:
        sampler, alone = job.sampler(calibration=str(path), calls=calls), job.sampler(calibration=None, calls=calls)
        found, theirs = run(f"{calls} calls", sampler), run(f"{calls} calls alone", alone)
        yield sampler.guider.report.calls, both(found, full), both(found, exact), both(theirs, exact)


def both(pictures, references):
    """dB, the mean and the worst."""
    return psnr(pictures, references), psnr(pictures, references, of=min)


def table(rows):
    """Aligned lines, the full run's first."""
    lines = [f"{'calls':>6} {'to full run':>13} {'to exact':>13} {'`calls` alone':>13}"]
    for calls, *figures in rows:
        cells = ["-" if each is None else "/".join(map(decibels, each)) for each in figures]
        lines.append(f"{calls:>6}" + "".join(f" {cell:>13}" for cell in cells))
    return "\n".join(lines)


def decibels(value):
    return "inf" if value is None else f"{value:.2f}"


def budgets_of(args):
    """What --calls says; else those of the file that is to be measured, or the usual ones."""
    if args.budgets is None and args.measure:
        return sorted(Calibration.load(args.measure, "--measure").budgets)
    return args.budgets or list(BUDGETS)


def require_file(args):
    """UserError where there is nothing to measure, or nowhere to write to, before anything is run."""
    if args.measure and not args.measure.is_file():
        raise UserError(f"--measure {args.measure}: no such file; give one that this command has written")
    if args.measure:
        return
    require_folder_of(args.out)
    if args.out.is_dir():
        raise UserError(f"--out {args.out}: a folder; name a file elsewhere")
    if args.start and not args.start.is_file():
        raise UserError(f"--from {args.start}: no such file; give a calibration, or leave it out")
    if args.folder and args.folder.exists() and not args.folder.is_dir():
        raise UserError(f"--folder {args.folder}: not a folder; name another")


def calibrate_all(args):
    """Do what calibrate.py was asked for."""
    require_file(args)
    args.budgets = budgets_of(args)
    job = Job.of(args)
    engine = job.engine()
    rehearse(job.full_sampler())
    fit_on, measure_on = pictures(args)
    rng = np.random.default_rng(args.seed)
    fit_crops = list(crops(fit_on, args.samples, args.crop, engine.factor, rng))
    smalls = list(crops(measure_on, args.check, args.check_crop, engine.factor, rng))  # now, so that a mistake costs nothing
    path = args.measure or args.out
    if not args.measure:
        require_undecided(job, args)
        save(fit(job, engine, args, fit_crops), path)
    for calls in args.budgets:
        rehearse(job.sampler(calibration=str(path), calls=calls))
    with explained("sampler_config", "its run failed"):
        rows = list(measured(job, engine, path, args.budgets, smalls, 1000 + args.seed))
    fitted = "" if args.measure else f"fitted on {args.samples} crops; "
    at = f", scale {job.config.sampler_config.params.guider_config.params.get('scale'):g}" if args.scales else ""
    where = "crops of pictures that were not fitted" if measure_on is not fit_on else "crops of the same pictures"
    print(f"{path}: {fitted}PSNR in dB on {args.check} {where}, mean/worst{at}")
    print(table(rows))


def require_undecided(job, args):
    """UserError where the calibration that is to be fitted could not be measured afterwards, as the options have it."""
    key, params = "sampler_config.params.guider_config.params", job.config.sampler_config.params.guider_config.get("params") or {}
    given = {name: value for name, value in regrouped(params).items() if name in OPTIONS}
    for name in Settings(**{**given, "calibration": None}).given((*DECIDED, "learn")):
        raise UserError(f"{key}.{name}: a calibration decides it; leave it out")
    scale = params.get("scale")
    if args.scales and not min(args.scales) <= scale <= max(args.scales):
        raise UserError(f"scale={scale:g}: it is to be measured at one from {min(args.scales):g} to {max(args.scales):g}")
    for calls in args.budgets:
        rehearse(job.sampler(calibration=None, calls=calls))


def save(calibration, path):
    """Write the file; elsewhere, and UserError that says where, if it cannot be written now that it has cost so much."""
    try:
        calibration.save(path)
    except OSError as error:
        spare = Path(tempfile.mkdtemp(prefix="taylorseer-")) / path.name
        calibration.save(spare)
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error}); it is in {spare} instead") from None


def fit(job, engine, args, smalls):
    """The Calibration for runs from ``smalls``."""
    runs = [engine.arguments(small, args.seed + n) for n, small in enumerate(smalls)]
    return calibrate(
        job.sampler(), engine.denoiser, runs, calls=args.budgets, scales=args.scales, history=args.history, low=args.low,
        substeps=args.substeps, refine=args.refine, start=args.start, peak=engine.peak, seed=args.seed,
        folder=args.folder,
    )  # fmt: skip
