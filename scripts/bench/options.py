"""How the guider's defaults were chosen: every combination of its options, ranked."""

import itertools
from functools import partial

from taylorseer_guider.forecast import BASES, COORDINATES, QUANTITIES
from taylorseer_guider.settings import Settings

from .methods import OURS, Method, host
from .tables import mean

SAMPLERS = {"Euler": "EulerEDMSampler", "Heun": "HeunEDMSampler", "DPM++2M": "DPMPP2MSampler"}


def named(coordinate, basis, quantity, order):
    return f"{coordinate:<9} {basis:<6} {quantity:<8} order {order}"


def option_methods(budgets=(5, 7, 10, 13)):
    """Every coordinate, basis, quantity and order, on every solver, which is the method's family here."""
    for coordinate, basis, quantity, order in itertools.product(COORDINATES, BASES, QUANTITIES, (1, 2, 3)):
        if order == 1 and basis == "taylor":
            continue  # the same line as newton's
        options = {"forecast": {"coordinate": coordinate, "basis": basis, "quantity": quantity}, "max_order": order}
        for budget, (solver, target) in itertools.product(budgets, SAMPLERS.items()):
            run = partial(host, options={**options, "calls": budget}, solver=target)
            yield Method(named(coordinate, basis, quantity, order), f"{OURS}, {solver}", budget, run)


def option_table(rows, most=12):
    """The best options by mean dB over budgets and scales, one column a solver; the default is marked."""
    means = {}
    for label in dict.fromkeys(row["label"] for row in rows if row["label"] != "full run"):
        known = [row for row in rows if row["label"] == label]
        per_solver = [mean([row for row in known if row["family"] == f"{OURS}, {solver}"]) for solver in SAMPLERS]
        means[label] = [*per_solver, sum(per_solver) / len(per_solver)]
    default = Settings(calls=5)  # every budget is spread
    quantity = default.quantity_on(noisy=False)
    chosen = named(default.forecast.coordinate_of(quantity), default.forecast.basis, quantity, default.max_order)
    ranked = sorted(means, key=lambda label: -means[label][-1])
    lines = [f"{'':<4} {'options':<34}" + "".join(f"{name:>9}" for name in (*SAMPLERS, "mean"))]
    for rank, label in enumerate(ranked, start=1):
        if rank <= most or label == chosen:
            mark = "  <- default" if label == chosen else ""
            lines.append(f"{rank:>4} {label:<34}" + "".join(f"{value:>9.1f}" for value in means[label]) + mark)
    return "\n".join(lines)
