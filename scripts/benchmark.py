"""Fidelity at equal denoiser calls: this guider against solvers with fewer steps and other forecasts, on held-out inputs.

Every method starts from the same noise. PSNR is to the exact solution (a fine Heun run); the full run is 20-step Heun with the
host's own guider, 39 calls. Results are written after every workload, so an interrupted run keeps what it has.
`--options` ranks the guider's options instead: how the defaults were chosen.
"""

import argparse
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from bench.measure import bfloat16_floor, forecast_cost, measure, side_by_side
from bench.methods import CALIBRATED, DEFAULT, fit, methods
from bench.options import option_methods, option_table
from bench.plots import pareto, sheet
from bench.tables import report
from bench.workloads import CROPS, embedded, held_out
from command import Parser, exit_code
from pictures import write_text

from taylorseer_guider import Calibration

BUDGETS = (5, 6, 7, 8, 10, 13, 20)
SHOWN = (5, 8)  # budgets of the contact sheet, and of all sizes but the first
CALIBRATIONS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("tiny_calibration*.yaml"))
PRICED = ((4, 3, 256, 256), (1, 3, 1024, 1024), (1, 3, 2048, 2048))  # what a forecast is timed on
PACKAGES = ("torch", "diffusers", "k-diffusion", "hicache-pp", "cache-dit")


def parse(argv):
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
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
    if args.quick:
        args.scales, args.sizes, args.seeds, args.budgets, args.training = args.scales[:1], args.sizes[:1], [0], list(SHOWN), 2
    return args


class Results:
    """Everything measured so far, and the files that show it."""

    def __init__(self, folder):
        self.folder, self.shown = folder, []
        self.content = {"about": about(), "rows": [], "clock": [], "bfloat16": [], "sizes": [], "forecast_cost": []}
        folder.mkdir(parents=True, exist_ok=True)

    def save(self):
        write_text(self.folder / "results.json", json.dumps(self.content, indent=1))
        write_text(self.folder / "tables.txt", report(self.content))
        if self.content["rows"]:
            pareto(self.content["rows"], self.folder / "pareto.png")
        if self.shown:
            sheet(self.shown, self.folder / "sheet.png", SHOWN)


def about():
    """What a reader needs to judge the figures: versions, processor threads."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {"packages": versions, "machine": platform.machine(), "threads": torch.get_num_threads()}


def compare(args):
    results, named = Results(args.out_dir), set()
    for name, scale in [(name, scale) for name in args.workloads for scale in args.scales]:
        fitted = fit(name, scale, args.calibrations, args.budgets, args.out_dir, args.training)
        if fitted.calibration is None:
            print(f"{name}, scale {scale:g}: no --calibrations for it; `our nodes` are those of the nearest scale", flush=True)
        todo, missing = methods(args.budgets, fitted)
        shown = [method for method in todo if method.budget in SHOWN]
        for package in missing.keys() - named:
            print(f"skipped: {missing[package]} of {package}; `bash scripts/benchmark.sh` installs it", flush=True)
        named |= missing.keys()
        for size, seed in batches(args, name):
            workload = held_out(name, scale, size, seed, args.crops)
            rows, pictures = measure(workload, todo if size == args.sizes[0] else shown, keep=SHOWN)
            results.content["rows"] += rows
            if name == "embedded" and (size, seed) == (args.sizes[-1], args.seeds[0]) and set(SHOWN) <= set(args.budgets):
                results.shown.append((rows, pictures))
            results.save()
        if name == "embedded":
            batch = scale, args.sizes[0], args.seeds[0], args.crops
            low = embedded(*batch, dtype=torch.bfloat16)
            calibration = fitted.calibration if 8 in fitted.plans else None
            results.content["bfloat16"] += bfloat16_floor(embedded(*batch), low, calibration)
            if scale == args.scales[0]:
                timed = [method for method in shown if method.label in (DEFAULT, CALIBRATED)]
                for size in args.sizes:
                    results.content["clock"] += side_by_side(embedded(scale, size, args.seeds[0], args.crops), timed)
            calibrated = [method for method in shown if method.label == CALIBRATED]
            for size in args.sizes if len(args.sizes) > 1 else ():
                results.content["sizes"] += measure(embedded(scale, size, 0, len(CROPS)), calibrated)[0]
            results.save()
    one = next((path for path in args.calibrations if holds(path)), None)
    results.content["forecast_cost"] = [row for shape in PRICED for row in forecast_cost(one, shape)]
    results.save()
    print(report(results.content))
    print(f"figures: {args.out_dir / 'results.json'}; plots: pareto.png and sheet.png beside it")


def batches(args, name):
    """(size, seed) of the batches of one scale: every seed at the first size, the first seed at the others."""
    yield from ((args.sizes[0], seed) for seed in args.seeds)
    if name == "embedded":
        yield from ((size, args.seeds[0]) for size in args.sizes[1:])


def holds(path, calls=8, scale=1.0):
    """Whether a calibration file is for ``scale`` and has a budget of ``calls``."""
    calibration = Calibration.load(path)
    return calibration.fitted.scale == scale and calls in calibration.budgets


def rank(args):
    """Rank the guider's options on every workload and scale, and over all of them."""
    rows, todo = [], list(option_methods())
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for name, scale in [(name, scale) for name in args.workloads for scale in args.scales]:
        found = []
        for seed in args.seeds:
            found += measure(held_out(name, scale, args.sizes[0], seed, args.crops), todo)[0]
        rows += found
        write_text(args.out_dir / "options.json", json.dumps(rows, indent=1))
        print(f"{name}, scale {scale:g}\n{option_table(found, most=4)}\n", flush=True)
    print(f"all\n{option_table(rows)}")


def main(argv=None):
    args = parse(argv)
    kept = f"{args.out_dir} holds the workloads that were finished"
    return exit_code("benchmark.py", lambda: (rank if args.options else compare)(args), (ValueError, OSError), kept)


if __name__ == "__main__":
    sys.exit(main())
