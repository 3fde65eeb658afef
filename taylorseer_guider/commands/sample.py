# PYTHON_ARGCOMPLETE_OK
"""Enlarge pictures, with and without forecasts, and say what was saved and what it cost.

Figures are of pictures as files hold them, in 8 bit.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from ..files import PICTURES
from .command import GUIDERS, PHOTOGRAPHS, Parser, add_model_options, exit_code, parsed, whole

PROG = "taylorseer-sample"
LARGEST_SEED = 2**63 - 1  # that torch takes


def parse(argv, prog=PROG):
    parser = Parser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("--guider", choices=GUIDERS, help="put this guider into the config (taylorseer: without a calibration)")
    add(
        "--config", type=Path, help="YAML with `engine` and `sampler_config`; default: the embedded model, calibrated, in 8 calls"
    )
    add("--calibration", type=Path, metavar="FILE", help="a file of taylorseer-calibrate; default: those that ship for --scale")
    given = "a picture, or a folder of PNG, JPEG, WebP, BMP and TIFF; 8-bit RGB is made of each, and what that drops is said"
    add("--input-path", type=Path, help=f"{given}; default: --photograph, shrunk first")
    add("--photograph", choices=PHOTOGRAPHS, default="coffee", help="one that the embedded model was not trained on")
    add("--shrink-first", action="store_true", help="take the input for the original: shrink it, restore it, compare")
    add("--out-dir", type=Path, default=Path("out"))
    add("--num-steps", type=int, help="steps of the schedule")
    add("--scale", type=float, help="guidance scale; 0 and 1 run one branch")
    add("--interval", type=int, help="call the denoiser at every N-th node")
    add("--calls", type=int, help="make this many calls; with a calibration, one of its budgets")
    add("--max-order", type=int, help="order of the forecast")
    add("--seeds", "--seed", nargs="+", default=[0], metavar="SEED", help="one picture for each")
    add_model_options(add)
    add("--compare", action=argparse.BooleanOptionalAction, help="also make the full run; default: only without --input-path")
    add("--report", action="store_true", help="also lay all results in --out-dir side by side on a page, report.html there")
    add("--overwrite", action="store_true", help="make pictures again that are already there")
    add("--tile", type=tile, metavar="PIXELS", help="make pictures in tiles of this size; 0: never; default: 512, above 1 Mpixel")
    add("--devices", type=whole(1, 1024), default=1, help="GPUs, or processes on a CPU, that share a folder's pictures")
    add("--num-nodes", type=whole(1, 1024), default=1, help="machines that do so, with --devices on each (torchrun, SLURM)")
    args = parsed(parser, argv)
    overrides = [*args.overrides, *(word for word in args.seeds if "=" in str(word))]
    refuse_second_path(parser, args.input_path, overrides)
    seeds = seed_numbers(parser, [word for word in args.seeds if "=" not in str(word)])
    own = args.input_path is None
    settled = {"compare": own if args.compare is None else args.compare, "shrink_first": args.shrink_first or own}
    return argparse.Namespace(**{**vars(args), "overrides": overrides, "seeds": seeds, **settled})


def refuse_second_path(parser, path, words):
    """One line for a picture among ``words``, which are for ``key.path=value``."""
    for word in words:
        there = os.path.exists(word)  # noqa: PTH110 - which a word that is too long for a name is not
        if "=" not in word and (Path(word).suffix.lower() in PICTURES or there):
            one = f"--input-path takes one path, and has {path}; put several pictures into one folder, and name that"
            parser.error(f"{word}: {one if path else 'give a path with --input-path'}")


def tile(text):
    """The type of --tile: 0, or pixels of what is made."""
    size = whole(0, 8192)(text)
    if 0 < size < 64:
        raise argparse.ArgumentTypeError(f"{text}: give 0, or from 64 pixels up")
    return size


def seed_numbers(parser, words):
    """``words`` as whole numbers, each once."""
    try:
        seeds = list(dict.fromkeys(map(int, words)))
    except ValueError:
        parser.error(f"--seeds {' '.join(map(str, words))}: give whole numbers")
    if not seeds or max(map(abs, seeds)) > LARGEST_SEED:
        parser.error(f"--seeds {' '.join(map(str, words))}: give whole numbers of up to 63 bits")
    return seeds


def run(args):
    if args.devices * args.num_nodes > 1:
        from .devices import sample_on_devices as sample_all
    else:
        from .making import sample_all
    return sample_all(args)


def main(argv=None, prog=PROG):
    args = parse(argv, prog)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return exit_code(prog, lambda: run(args), (ValueError, FloatingPointError, OSError), "finished pictures are kept")
