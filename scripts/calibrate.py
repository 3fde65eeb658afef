"""Solve plans and weights for a model from a few crops of pictures, and say what they are worth on others."""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from command import Parser, exit_code
from configuration import add_model_options, merged_config
from pictures import UserError, find_pictures, read_picture
from sample import build

from taylorseer_guider import calibrate, tiny
from taylorseer_guider.tiny.photographs import HELD_OUT, TRAINING, photograph

EXACT_STEPS = 100  # of the host's own sampler, taken for the exact solution


def parse(argv):
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--config", type=Path, help="YAML with `engine` and `sampler_config`; default: the embedded model")
    add("--input-path", type=Path, help="a picture or a folder of them; default: the embedded model's training photographs")
    add("--out", type=Path, default=Path("calibration.yaml"), help="the file to write")
    add("--calls", dest="budgets", metavar="CALLS", type=int, nargs="+", default=[5, 6, 8, 10, 13], help="budgets of denoiser calls")
    add("--scale", type=float, help="guidance scale, which the calibration is then for")
    add("--num-steps", type=int, help="steps of the schedule")
    add("--samples", type=int, default=12, help="crops to fit on")
    add("--crop", type=int, nargs="+", default=[48, 48, 96], help="their heights and widths, in turn")
    add("--check", type=int, default=4, help="crops to measure on, of pictures that the fit has not seen")
    add("--check-crop", type=int, nargs="+", default=[96], help="their height and width")
    add("--history", type=int, default=4, help="outputs that an answer may weigh")
    add("--low", action=argparse.BooleanOptionalAction, default=True, help="weigh 4x4 means, too")
    add("--substeps", type=int, default=4, help="Heun steps of the reference in each step")
    add("--walks", type=int, default=60, help="plans that a quarter of the crops try with real calls, for each budget")
    add("--refine", type=int, default=0, help="gradients along which each budget's weights are moved together")
    add("--folder", type=Path, help="keep recordings there, so that an interrupted run goes on")
    add("--seed", type=int, default=0)
    add_model_options(add)
    add("overrides", nargs="*", metavar="key.path=value", help="anything else in the config")
    parser.set_defaults(guider="taylorseer", interval=None, calls=None, max_order=None)
    return parser.parse_intermixed_args(argv)


def pictures(args):
    """(to fit on, to measure on): uint8 arrays. Of a folder, every fifth picture is measured on, if there are that many."""
    if args.input_path is None:
        return [photograph(name) for name in TRAINING], [photograph(name) for name in HELD_OUT]
    found = [read_picture(file) for file in find_pictures(args.input_path).values()]
    return [image for i, image in enumerate(found) if i % 5 != 4], found[4::5] or found


def crops(images, count, sizes, factor, rng):
    """``count`` crops of ``sizes`` in turn, taken from the images in turn and shrunk: (1, 3, size / factor, size / factor) each."""
    for n in range(count):
        size = sizes[n % len(sizes)] // factor * factor
        large = [image for image in images if min(image.shape[:2]) >= size]
        if not size or not large:
            raise UserError(f"no picture is {size} pixels high and wide; give a smaller --crop or --check-crop, or larger pictures")
        image = large[n % len(large)]
        top, left = (int(rng.integers(length - size + 1)) for length in image.shape[:2])
        yield tiny.shrink(tiny.from_uint8(image[top : top + size, left : left + size].copy())[None], factor)


def decibels(found, wanted):
    """PSNR of lists of pictures in [-1, 1]."""
    square = sum(float((a - b).double().square().mean()) for a, b in zip(found, wanted, strict=True)) / len(found)
    return 10 * math.log10(4 / max(square, 1e-20))


def measured(engine, make_sampler, path, budgets, smalls, seed):
    """Rows (calls, dB to the full run, dB to the exact solution); the first is the full run's own."""

    def run(sampler, **more):
        found = []
        for n, small in enumerate(smalls):
            with torch.inference_mode():
                x = sampler(engine.denoiser, **engine.arguments(small, seed + n), **more)
            found.append(engine.picture(x, small))
        return found

    baseline = make_sampler(use_cache=False)
    exact, full = run(baseline, num_steps=EXACT_STEPS), run(baseline)
    yield baseline.guider.report.calls, math.inf, decibels(full, exact)
    for calls in budgets:
        sampler = make_sampler(calibration=str(path), calls=calls)
        found = run(sampler)
        yield sampler.guider.report.calls, decibels(found, full), decibels(found, exact)


def table(rows, calibration):
    lines = [f"{'calls':>6} {'to full run':>12} {'to exact':>9}  nodes"]
    for calls, to_full, to_exact in rows:
        nodes = " ".join(map(str, calibration.budgets[calls].nodes)) if math.isfinite(to_full) else "full run"
        lines.append(f"{calls:>6} {to_full:>12.2f} {to_exact:>9.2f}  {nodes}")
    return "\n".join(lines)


def run(args):
    config = merged_config(args)
    engine, make_sampler = build(config, args)
    fit_on, measure_on = pictures(args)
    rng = np.random.default_rng(args.seed)
    smalls = crops(fit_on, args.samples, args.crop, engine.factor, rng)
    runs = [engine.arguments(small, args.seed + n) for n, small in enumerate(smalls)]
    smalls = list(crops(measure_on, args.check, args.check_crop, engine.factor, rng))  # now, so that a mistake costs nothing
    calibration = calibrate(
        make_sampler(), engine.denoiser, runs, calls=args.budgets, history=args.history, low=args.low, substeps=args.substeps,
        walks=args.walks, refine=args.refine, peak=engine.peak, seed=args.seed, folder=args.folder,
    )  # fmt: skip
    calibration.save(args.out)
    rows = measured(engine, make_sampler, args.out, args.budgets, smalls, 1000 + args.seed)
    print(f"{args.out}: fitted on {args.samples} crops; PSNR in dB on {args.check} others")
    print(table(rows, calibration))


def main(argv=None):
    args = parse(argv)
    again = "the same command goes on from there" if args.folder else "--folder would have kept them"
    return exit_code("calibrate.py", lambda: run(args), (UserError, ValueError, OSError), f"recordings: {again}")


if __name__ == "__main__":
    sys.exit(main())
