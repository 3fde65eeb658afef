"""What forecasting features costs beside forecasting outputs: at equal calls, at equal seconds, and in memory."""

from time import perf_counter

import torch

from .memory import MIB, high_water, in_fresh_process
from .peers import features
from .workloads import embedded, host

FULL, OUTPUTS, FEATURES = "full run", "outputs", "features"


def beside(rows, ours, quality="dB"):
    """(row, the best of ``ours`` with as many calls, the best with no more seconds) for each of ``rows``.

    None stands where there is no such run. Rows are dictionaries with "calls", "seconds" and ``quality``, of runs on one workload
    that were timed in turns.
    """

    def best(allowed):
        return max(filter(allowed, ours), key=lambda row: row[quality], default=None)

    return [
        (row, best(lambda own: own["calls"] == row["calls"]), best(lambda own: own["seconds"] <= row["seconds"]))  # noqa: B023
        for row in rows
    ]


def forms(budgets, orders=(1, 2)):
    """What to measure, as arguments: the full run, and at each budget forecasts of outputs (ours) and of features."""
    yield {"form": FULL}
    for budget in budgets:
        yield {"form": OUTPUTS, "budget": budget}
        yield from ({"form": FEATURES, "budget": budget, "order": order} for order in orders)


def measure_embedded(budgets, **batch):
    """Yield a row for each of ``forms`` on the embedded model, each in its own process.

    ``batch`` is ``scale``, ``count`` and ``size`` of the held-out crops.
    """
    for form in forms(budgets):
        yield in_fresh_process("bench.costs:measure_one", **form, **batch)


@torch.no_grad()
def measure_one(form, budget=None, order=None, scale=1.0, count=4, size=96):
    """A row: one run in this process, after a call that is not measured."""
    workload = embedded.held_out(scale, count, size)
    workload.denoise(workload.noise, workload.sigmas()[0])
    options = {"calls": budget} if form == OUTPUTS else None
    run = features.begin(workload, budget, order) if form == FEATURES else host(workload, options=options)
    workload.calls = 0
    with high_water() as memory:
        started = perf_counter()
        run()
        seconds = perf_counter() - started
    held = run.peak_bytes if form == FEATURES else run.func.guider.report.peak_bytes if form == OUTPUTS else 0
    passes = run.passes if form == FEATURES else workload.calls
    named = {"form": form, "budget": budget, "order": order, "calls": workload.calls, "passes": passes}
    return {**named, "seconds": seconds, "held_MiB": held / MIB, **memory}
