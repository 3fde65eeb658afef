"""Running methods on a workload, and what the runs cost and are worth, as plain rows."""

from functools import partial
from statistics import median
from time import perf_counter

import torch
from torchmetrics.functional.image import structural_similarity_index_measure
from tqdm import tqdm

from figures import psnr, sharpness

from .methods import CALIBRATED, DEFAULT, DENOISED, EPS, OURS, Method, evenly, host, reference, sampler_of
from .workloads import FULL_CALLS, NODES

EXACT_STEPS = {"mixture": 300, "embedded": 80}
FULL_RUN = Method("full run", "full run", None, host)


@torch.no_grad()
def timed(workload, begin):
    """(pictures, calls, seconds) of the run that ``begin(workload)`` makes ready, which is not timed."""
    run = begin(workload)
    workload.calls, workload.seconds, started = 0, 0.0, perf_counter()
    x = run()
    seconds = perf_counter() - started
    return workload.picture(x), workload.calls, seconds


def measure(workload, todo, keep=()):
    """(rows, pictures): a row for the full run and for each method of ``todo``; pictures of the budgets ``keep``, by label.

    The full run is timed before and after everything else, so that a machine that slows down does not flatter anybody.
    """
    exact = workload.picture(reference(workload, EXACT_STEPS[workload.name]))
    full, calls, before = timed(workload, host)
    results, pictures = [], {"exact": exact, "full run": full}
    title = f"{workload.name} {workload.size} px, scale {workload.scale:g}, seed {workload.seed}"
    for method in tqdm(todo, desc=title, leave=False):
        picture, spent, seconds = timed(workload, method.begin)
        results.append((method, picture, spent, seconds))
        if method.budget in keep:
            pictures[method.label, method.budget] = picture
    after = timed(workload, host)[2]
    full_seconds = (before + after) / 2
    results.insert(0, (FULL_RUN, full, calls, full_seconds))
    return [row(workload, result, exact, full, full_seconds) for result in results], pictures


def row(workload, result, exact, full, full_seconds):
    """One run as plain figures. ``of_ideal`` is the speed-up over that of a free forecast, full calls / calls."""
    method, picture, calls, seconds = result
    speed_up = full_seconds / seconds
    return {
        "workload": workload.name, "size": workload.size, "scale": workload.scale, "seed": workload.seed,
        "label": method.label, "family": method.family, "budget": method.budget, "setting": method.setting, "calls": calls,
        "seconds": seconds, "speed_up": speed_up, "of_ideal": speed_up * calls / FULL_CALLS,
        "exact_dB": psnr(picture, exact), "exact_SSIM": ssim(picture, exact),
        "full_dB": psnr(picture, full), "full_SSIM": ssim(picture, full),
        "sharpness": sharpness(picture) / sharpness(exact),
    }  # fmt: skip


def side_by_side(workload, todo, repeats=9):
    """What runs cost beside the full run, all taking turns. A row for each method of ``todo``.

    ``speed_up`` is that of the fastest of the ``repeats``, since other programs on the machine slow a run down by up to a third.
    ``outside`` is the share of its time that a run spends outside the denoiser, the median: what calls alone would save.
    """
    spent = {method: [] for method in [FULL_RUN, *todo]}
    for _ in tqdm(range(repeats), desc=f"{workload.name} {workload.size} px, in turns", leave=False):
        for method, taken in spent.items():
            _, calls, seconds = timed(workload, method.begin)
            taken.append((seconds, 1 - workload.seconds / seconds, calls))
    rows = []
    for method, taken in spent.items():
        seconds, outside, calls = zip(*taken, strict=True)
        named = {"label": method.label, "size": workload.size, "scale": workload.scale, "calls": calls[0]}
        rows.append({**named, "speed_up": min(spent[FULL_RUN])[0] / min(seconds), "outside": median(outside)})
    return rows


def ssim(pictures, reference):
    return structural_similarity_index_measure(pictures, reference, data_range=2.0).item()


def bfloat16_floor(single, low, calibration, budget=8):
    """What half precision of the network alone changes, beside what ``budget`` calls change: rows against the float32 runs.

    ``single`` and ``low`` are one workload with a float32 and with a bfloat16 network.
    """
    exact = single.picture(reference(single, EXACT_STEPS[single.name]))
    full, _, seconds = timed(single, host)
    runs = {"full run": None, DEFAULT: {"calls": budget}}
    if calibration is not None:
        runs[CALIBRATED] = {"calibration": str(calibration), "calls": budget}
    rows = []
    for label, options in runs.items():
        for workload, dtype in ((single, "float32"), (low, "bfloat16")):
            method = Method(f"{label}, {dtype}", OURS, budget, partial(host, options=options))
            rows.append(row(workload, (method, *timed(workload, method.begin)), exact, full, seconds))
    return rows


@torch.no_grad()
def forecast_cost(calibration, shape, repeats=5):
    """Milliseconds of one forecast visit, and of one fused pass over the tensors that it must read.

    The visit's time is the report's: weights, weighted sum and bookkeeping, the median over runs on a ``shape`` batch with a
    denoiser that costs nothing; passes and runs take turns. The pass is one matrix-vector product over as many tensors of that
    size, already stacked, into memory that is there already; a visit makes its output, for which a CPU maps new memory where
    it is large.
    """
    even, rows = {"plan": {"nodes": evenly(8, NODES)}}, []
    options = {
        "denoised, order 1": ({**even, **DENOISED}, 2),
        "default, order 1": (even, 3),
        "eps, order 2": ({**even, **EPS}, 4),
    }
    if calibration is not None:
        options["calibrated, 8 calls"] = ({"calibration": str(calibration), "calls": 8}, 5)
    for label, (chosen, read) in options.items():
        stacked, weights = torch.randn(read, torch.Size(shape).numel()), torch.randn(read)
        out = torch.empty_like(stacked[0])
        visits, passes = [], []
        for _ in range(repeats):
            visits += [visit.seconds for visit in _skipped(chosen, shape, read)]
            for _ in range(10):
                started = perf_counter()
                torch.mv(stacked.T, weights, out=out)
                passes.append(perf_counter() - started)
        cost = {"visit_ms": 1e3 * median(visits), "pass_ms": 1e3 * median(passes)}
        rows.append({"label": label, "reads": read, "shape": list(shape), **cost, "ratio": cost["visit_ms"] / cost["pass_ms"]})
    return rows


def _skipped(options, shape, read):
    """The forecast visits of one run, once its history is full."""
    sampler = sampler_of(1.0, options)
    noise = torch.randn(shape)
    sampler(lambda x, sigma, cond: 0.5 * x, noise, {})
    held = 4 if "calibration" in options else options.get("max_order", 1) + 1
    visits, calls = [], 0
    for visit in sampler.guider.report.visits:
        calls += visit.action == "call"
        if visit.action == "forecast" and visit.reason in ("skipped", "calibrated") and calls >= held:
            visits.append(visit)
    return visits
