"""What forecasting features costs beside forecasting outputs: at equal calls, at equal seconds, and in memory."""

import torch

from .devices import clock_of, moved, ready
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

    ``batch`` is ``scale``, ``count`` and ``size`` of the held-out crops, and the ``device``.
    """
    for form in forms(budgets):
        yield in_fresh_process("bench.costs:measure_one", **form, **batch)


@torch.no_grad()
def measure_one(form, budget=None, order=None, scale=1.0, count=4, size=96, device="cpu"):
    """A row: one run in this process, after a call that is not measured."""
    clock = clock_of(ready(device))
    workload = moved(embedded.held_out(scale, count, size), clock.device)
    workload.denoise(workload.noise, workload.sigmas()[0])
    options = {"calls": budget} if form == OUTPUTS else None
    run = features.begin(workload, budget, order) if form == FEATURES else host(workload, options=options)
    workload.calls = 0
    with high_water(clock.device) as memory:
        clock.start()
        run()
        seconds = clock.stop()
    held = run.peak_bytes if form == FEATURES else run.func.guider.report.peak_bytes if form == OUTPUTS else 0
    passes = run.passes if form == FEATURES else workload.calls
    named = {"form": form, "budget": budget, "order": order, "calls": workload.calls, "passes": passes}
    return {**named, "seconds": seconds, "held_MiB": held / MIB, **memory}
