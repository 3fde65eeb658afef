"""The comparison of methods and the ranking of options: every workload measured, and written as soon as it is."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from pictures import write_text
from taylorseer_guider import Calibration

from . import SHOWN
from .measure import bfloat16_floor, forecast_cost, measure, side_by_side
from .methods import CALIBRATED, DEFAULT, fit, methods
from .options import option_methods, option_table
from .plots import pareto, sheet
from .tables import report
from .workloads import CROPS, embedded, held_out

PRICED = ((4, 3, 256, 256), (1, 3, 1024, 1024), (1, 3, 2048, 2048))  # what a forecast is timed on
PACKAGES = ("torch", "diffusers", "k-diffusion", "hicache-pp", "cache-dit")


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
