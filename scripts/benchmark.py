"""Fidelity at equal denoiser calls: this guider against solvers with fewer steps and other forecasts, on held-out inputs.

Every method starts from the same noise, on many pictures; figures are picture by picture: mean, worst, pooled, and how sure a
difference is. dB is PSNR to the exact solution (a fine Heun run); the full run is 20-step Heun with the host's own guider, 39
calls. Each row is written as soon as it is measured, and the same command goes on where it was stopped.
"""

import argparse
import sys
from pathlib import Path

from bench import BUDGETS, PARTS, WORKLOADS
from taylorseer_guider.commands.command import Parser, above, exit_code, whole


def parse(argv):
    parser = Parser(prog="benchmark.py", description=__doc__)
    add = parser.add_argument
    what = f"what to measure, of {', '.join(PARTS)} (default: methods, and on cuda then accelerator)"
    add("parts", nargs="*", metavar="PART", help=what)
    add("--quick", action="store_true", help="the short form for tests: 2 pictures, the first scale, 5 and 8 calls")
    add("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    add("--scales", type=above(0), nargs="+", help="guidance scales; without it, those of each workload")
    add("--pictures", type=whole(1, 10_000), metavar="N", help="of each workload; without it, its own number (32 or 16)")
    add("--budgets", type=whole(1, 20), nargs="+", default=list(BUDGETS), help="denoiser calls")
    add("--training", type=whole(1, 10_000), metavar="N", help="pictures that fitted methods see; without it, each workload's")
    add(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where every part runs, in float32 without TF32; every row has it",
    )
    add("--out-dir", type=Path, default=Path("out/benchmark"))
    args = parser.parse_args(argv)
    args.parts = args.parts or ["methods", *(["accelerator"] if args.device != "cpu" else [])]
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"{', '.join(unknown)}: there is {', '.join(PARTS)}")
    quick = {"pictures": 2, "budgets": [5, 8], "training": 2, "scales": [1.0]} if args.quick else {}
    return argparse.Namespace(**{**vars(args), **quick})


def run(args):
    from bench.parts import run

    run(args)


def main(argv=None):
    args = parse(argv)
    kept = f"{args.out_dir} holds the rows that were finished; the same command goes on"
    return exit_code("benchmark.py", lambda: run(args), (ValueError, OSError), kept)


if __name__ == "__main__":
    sys.exit(main())
