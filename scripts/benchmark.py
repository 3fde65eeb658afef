"""Fidelity at equal denoiser calls: this guider against solvers with fewer steps and other forecasts, on held-out inputs.

Every method starts from the same noise. PSNR is to the exact solution (a fine Heun run); the full run is 20-step Heun with the
host's own guider, 39 calls. Results are written after every workload, so an interrupted run keeps what it has.
`--options` ranks the guider's options instead: how the defaults were chosen.
"""

import argparse
import sys
from pathlib import Path

from bench import BUDGETS, SHOWN
from command import ROOT, Parser, exit_code

CALIBRATIONS = sorted((ROOT / "configs").glob("tiny_calibration*.yaml"))


def parse(argv):
    parser = Parser(prog="benchmark.py", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a minimal run: scale 1, the smallest size, one seed, 5 and 8 calls")
    add("--workloads", nargs="+", choices=("mixture", "embedded"), default=["mixture", "embedded"])
    add("--scales", type=float, nargs="+", default=[1.0, 1.5, 2.5], help="guidance scales")
    add("--sizes", type=int, nargs="+", default=[48, 96], help="pixels of a held-out crop; all budgets at the first")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="noise and crops; sizes but the first take the first seed")
    add("--crops", type=int, default=1, help="held-out crops in a batch, at most 4")
    add("--budgets", type=int, nargs="+", default=list(BUDGETS), help="denoiser calls")
    add("--training", type=int, default=8, help="crops of training photographs that L2P and BudCache are fitted on")
    add("--calibrations", type=Path, nargs="+", default=CALIBRATIONS, help="calibration files, looked up by scale")
    add("--out-dir", type=Path, default=Path("out/benchmark"))
    add("--options", action="store_true", help="rank the guider's options instead of comparing methods")
    args = parser.parse_args(argv)
    quick = {"scales": args.scales[:1], "sizes": args.sizes[:1], "seeds": [0], "budgets": list(SHOWN), "training": 2}
    return argparse.Namespace(**{**vars(args), **(quick if args.quick else {})})


def run(args):
    from bench import compare

    (compare.rank if args.options else compare.compare)(args)


def main(argv=None):
    args = parse(argv)
    kept = f"{args.out_dir} holds the workloads that were finished"
    return exit_code("benchmark.py", lambda: run(args), (ValueError, OSError), kept)


if __name__ == "__main__":
    sys.exit(main())
