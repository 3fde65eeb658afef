"""What runs and forecasts cost by the clock, all in turns with what they are measured against."""

from statistics import median
from time import perf_counter
from types import SimpleNamespace

import torch
from tqdm import tqdm

from taylorseer_guider import Calibration, calibrate
from taylorseer_guider.report import FORECAST

from .devices import Processor
from .measure import timed
from .methods import DENOISED, EPS, FULL_RUN, evenly
from .tables import three
from .workloads import FULL_CALLS, NODES, sampler_of

EDM = {"sigma_min": 0.002, "sigma_max": 40.0}


def side_by_side(workload, todo, repeats=9, clock=None):
    """What runs cost beside the full run, all taking turns. A row for each method of ``todo``.

    ``speed_up`` is that of the fastest of the ``repeats``, since other programs on the machine slow a run down by up to a third;
    ``of_ideal`` is its share of full calls / calls. ``outside`` is the share of its time that a run spends outside the denoiser,
    the median: what calls alone would save; None on a device, whose work is only queued where the denoiser is called.
    """
    clock = clock or Processor()
    queued = clock.device.type != "cpu"
    spent = {method: [] for method in [FULL_RUN, *todo]}
    for _ in tqdm(range(repeats), desc=f"{workload.name}, in turns", leave=False):
        for method, taken in spent.items():
            _, calls, _, seconds = timed(workload, method.begin, clock)
            taken.append((seconds, None if queued else 1 - workload.seconds / seconds, calls, clock.peak_bytes()))
    rows, full = [], min(spent[FULL_RUN])[0]
    for method, taken in spent.items():
        seconds, outside, calls, peaks = zip(*taken, strict=True)
        speed_up = full / min(seconds)
        rows.append({
            "label": method.label, "size": workload.noise.shape[-1], "scale": workload.scale, "calls": calls[0],
            "seconds": min(seconds), "speed_up": speed_up, "of_ideal": speed_up * calls[0] / FULL_CALLS,
            "outside": None if queued else median(outside), "peak_bytes": max(peaks) if queued else None,
        })  # fmt: skip
    return rows


@torch.no_grad()
def forecast_cost(calibrations, shape, repeats=5):
    """Milliseconds of one forecast visit, and of one fused pass over the tensors that it must read.

    ``calibrations``, {label: file}, are for 8 calls, among others. The visit's time is the report's: weights, weighted sum and
    bookkeeping, the median over runs on a ``shape`` batch with a denoiser that costs nothing; passes and runs take turns. The
    pass is one matrix-vector product over as many tensors of that size, already stacked, into memory that is there already. It
    comes after a step like the host's, as a visit does, and again at once, ``warm``: with all that it reads in cache, as no
    visit has it.
    """
    even, rows = {"plan": {"nodes": evenly(8, NODES)}}, []
    options = {
        "denoised, order 1": ({**even, **DENOISED}, 2),
        "default, order 3": ({"calls": 8}, 4),
        "eps, order 2": ({**even, **EPS}, 4),
    }
    for label, path in calibrations.items():
        options[label] = ({"calibration": str(path), "calls": 8}, 1 + Calibration.load(path).history)
    for label, (chosen, read) in options.items():
        stacked, weights = torch.randn(read, torch.Size(shape).numel()), torch.randn(read)
        visits, passes, warm = [], [], []
        x, out = torch.randn(shape), torch.empty_like(stacked[0])
        for _ in range(repeats):
            visits += [visit.seconds for visit in _skipped(chosen, shape)]
            for _ in range(10):
                x = _stepped(x)
                passes.append(_pass(stacked, weights, out))
                warm.append(_pass(stacked, weights, out))
        visit, cold, warm = (1e3 * median(seconds) for seconds in (visits, passes, warm))
        cost = {"visit_ms": visit, "pass_ms": cold, "warm_ms": warm, "ratio": visit / cold}
        rows.append({"label": label, "reads": read, "shape": list(shape), **cost})
    return rows


def calibrated_for_nothing(path, **options):
    """A calibration for 8 calls as ``calibrate`` makes them, of a denoiser that costs nothing; where it is written."""
    nothing, runs = SimpleNamespace(scale=1.0, edm=EDM), [{"x": torch.randn(4, 3, 8, 8), "cond": {}, "uc": {}}]
    sampler = sampler_of(nothing, {})
    calibrate(sampler, lambda x, sigma, cond: torch.tanh(x), runs, calls=8, refine=0, progress=False, **options).save(path)
    return path


def _pass(stacked, weights, out):
    started = perf_counter()
    torch.mv(stacked.T, weights, out=out)
    return perf_counter() - started


def _stepped(x):
    """A step of Euler's with a denoiser that costs nothing: what comes between a host's visits."""
    denoised = 0.5 * x
    slope = (x - denoised) / 2.0
    return x - slope


def _skipped(options, shape):
    """The forecast visits of one run, once its history is full."""
    sampler = sampler_of(SimpleNamespace(scale=1.0, edm=EDM), options)
    sampler(lambda x, sigma, cond: 0.5 * x, torch.randn(shape), {})
    visits = [visit for visit in sampler.guider.report.visits if visit.action == FORECAST and visit.reason != "repeated"]
    full = max(visit.order for visit in visits)
    return [visit for visit in visits if visit.order == full]


def run_table(rows):
    head = f"by the clock, in turns with the full run (embedded, one picture): speed-up, ideally {FULL_CALLS} / calls"
    lines = [f"{head}; time spent outside the network"]
    lines.append(f"{'':<33}" + "".join(f"{name:>10}" for name in ("size", "calls", "ideal", "speed-up", "of ideal", "outside")))
    for row in rows:
        cells = [f"{row['size']} px", str(row["calls"]), f"{FULL_CALLS / row['calls']:.2f}", f"{row['speed_up']:.2f}"]
        cells += [f"{row['of_ideal']:.3f}", "-" if row["outside"] is None else f"{100 * row['outside']:.1f} %"]
        lines.append(f"{row['label']:<33}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def forecast_table(rows):
    lines = ["one forecast visit against one fused pass (a matrix-vector product) over what it reads, after a step of the host's"]
    for row in rows:
        figures = f"visit {row['visit_ms']:.2f} ms, pass {row['pass_ms']:.2f} ms, ratio {row['ratio']:.2f}"
        shape, warm = "x".join(map(str, row["shape"])), f"(again at once: {row['warm_ms']:.2f} ms)"
        lines.append(f"{shape:<13} {row['label']:<20} reads {row['reads']}: {figures} {warm}")
    return "\n".join(lines)


def floor_table(rows):
    lines = [
        "what a bfloat16 network changes (embedded, scale 1): dB to the float32 exact solution and full run, mean/worst/pooled"
    ]
    for row in rows:
        full = "-" if None in row["full_dB"] else three(row, "full_dB", 0)
        lines.append(f"{row['label']:<40}{row['calls']:>5}{three(row):>18}{full:>18}")
    return "\n".join(lines)
