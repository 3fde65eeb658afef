"""How the guider's defaults were chosen: every combination of its options, ranked."""

import itertools
from functools import partial
from statistics import fmean

from tqdm import tqdm

from taylorseer_guider.forecast import BASES, COORDINATES, QUANTITIES
from taylorseer_guider.settings import Forecast, Settings

from .compare import references, scales
from .devices import moved
from .kinds import KINDS
from .measure import row, sampled
from .methods import OURS, Method, host
from .spread import summary
from .store import Store

SAMPLERS = {"Euler": "EulerEDMSampler", "Heun": "HeunEDMSampler", "DPM++2M": "DPMPP2MSampler"}
BUDGETS = (5, 7, 10, 13)
RANKED = ("mixture", "embedded")  # the workloads that defaults were chosen on


def named(coordinate, basis, quantity, order):
    return f"{coordinate:<9} {basis:<6} {quantity:<8} order {order}"


def option_methods():
    """Every coordinate, basis, quantity and order, on every solver, which is the method's family here."""
    for coordinate, basis, quantity, order in itertools.product(COORDINATES, BASES, QUANTITIES, (1, 2, 3)):
        if order == 1 and basis == "taylor":
            continue  # the same line as newton's
        options = {"forecast": {"coordinate": coordinate, "basis": basis, "quantity": quantity}, "max_order": order}
        for budget, (solver, target) in itertools.product(BUDGETS, SAMPLERS.items()):
            run = partial(host, options={**options, "calls": budget}, solver=target)
            yield Method(f"{named(coordinate, basis, quantity, order)}, {solver}", f"{OURS}, {solver}", budget, run)


def ranked(args):
    """Yields (workload, scale, rows) as they are measured, and what is on disk is not measured again."""
    for name in [name for name in RANKED if name in args.workloads]:
        for scale in scales(args, KINDS[name]):
            count = args.pictures or 1
            made = {"workload": name, "scale": scale, "pictures": count}
            store = Store(args.out_dir / f"options-{name}-{scale:g}.jsonl", made, device=args.device)
            workload = moved(KINDS[name].training(scale, count), args.device)
            exact, full = references(workload, args.out_dir / f"options-{name}-{scale:g}.safetensors")
            for method in tqdm(list(option_methods()), desc=f"options, {name}, scale {scale:g}", unit="row", leave=False):
                if store.find(label=method.label, budget=method.budget) is None:
                    store.add(row(workload, method, sampled(workload, method), exact, full))
            yield name, scale, [found for found in store.rows if found["family"].startswith(OURS)]


def option_table(rows, most=12):
    """The best options by mean dB over budgets and scales, one column a solver; the default is marked."""
    means = {}
    for label in dict.fromkeys(found["label"].rpartition(",")[0] for found in rows):
        per_solver = [_mean([found for found in rows if found["label"] == f"{label}, {solver}"]) for solver in SAMPLERS]
        means[label] = [*per_solver, fmean(per_solver)]
    quantity = Forecast().quantity_on(noisy=False)  # where a sampler's steps are not known; else forecasts are left to `landing`
    chosen = named(Forecast().coordinate_of(quantity), Forecast().basis, quantity, Settings().order_on(False, False, 1))
    order = sorted(means, key=lambda label: -means[label][-1])
    lines = [f"{'':<4} {'options':<34}" + "".join(f"{name:>9}" for name in (*SAMPLERS, "mean"))]
    for rank, label in enumerate(order, start=1):
        if rank <= most or label == chosen:
            mark = "  <- default" if label == chosen else ""
            lines.append(f"{rank:>4} {label:<34}" + "".join(f"{value:>9.1f}" for value in means[label]) + mark)
    return "\n".join(lines)


def _mean(rows):
    return fmean(summary(row["exact_dB"])[0] for row in rows)
