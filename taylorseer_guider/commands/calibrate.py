# PYTHON_ARGCOMPLETE_OK
"""Fit where a model is called, and what answers weigh, to a few crops of pictures, and say what they are worth on others."""

import argparse
from pathlib import Path

from .command import Parser, add_model_options, exit_code, parsed, whole

PROG = "taylorseer-calibrate"


def parse(argv, prog=PROG):
    parser = Parser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, help="YAML with `engine` and `sampler_config`; default: the embedded model")
    add("--input-path", type=Path, help="a picture or a folder of them; default: the embedded model's training photographs")
    add("--out", type=Path, default=Path("calibration.yaml"), help="the file to write")
    add("--measure", type=Path, metavar="FILE", help="fit nothing: measure this calibration on the crops of --check")
    add(
        "--calls",
        dest="budgets",
        metavar="CALLS",
        type=int,
        nargs="+",
        help="budgets (default: 5 6 8 10 13; with --measure those of its file)",
    )
    add("--scale", type=float, help="guidance scale, which the calibration is then for; with --scales, the one to measure at")
    add(
        "--scales",
        type=float,
        nargs="+",
        help="walk at each of these; the calibration is then for all from the lowest to the highest",
    )
    add("--num-steps", type=int, help="steps of the schedule")
    add("--samples", type=whole(1, 10_000), default=12, help="crops to fit on")
    add("--crop", type=whole(1, 8192), nargs="+", default=[48, 48, 96], help="their heights and widths, in turn")
    add("--check", type=whole(1, 10_000), default=4, help="crops to measure on, of pictures that the fit has not seen")
    add("--check-crop", type=whole(1, 8192), nargs="+", default=[96], help="their height and width")
    add("--history", type=int, default=5, help="outputs that an answer may weigh")
    add("--low", action=argparse.BooleanOptionalAction, default=False, help="weigh 4x4 means, too")
    add("--from", dest="start", type=Path, metavar="FILE", help="begin with this calibration where it is better")
    add("--substeps", type=int, default=1, help="steps of the reference, of order 4, in each step")
    add("--refine", type=int, default=12, help="gradients that move each budget's sigmas and weights; 0: none")
    add("--folder", type=Path, help="keep recordings there, so that an interrupted run goes on")
    add("--seed", type=whole(0, 2**62), default=0)
    add_model_options(add)
    parser.set_defaults(guider="taylorseer")
    args = parsed(parser, argv)
    if args.scales and args.scale is None:
        args.scale = (min(args.scales) + max(args.scales)) / 2
    return args


def run(args):
    from .calibrating import calibrate_all

    calibrate_all(args)


def main(argv=None, prog=PROG):
    args = parse(argv, prog)
    again = "the same command goes on from there" if args.folder else "--folder would have kept them"
    return exit_code(prog, lambda: run(args), (ValueError, OSError), f"recordings: {again}")
