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
RANKED = ("mixture", "hsc64", "lsst60", "quasar72", "fashion", "embedded")
PICTURES = 4


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
            count = args.pictures or PICTURES
            made = {"workload": name, "scale": scale, "pictures": count}
            store = Store(args.out_dir / f"options-{name}-{scale:g}.jsonl", made, device=args.device)
            workload = moved(KINDS[name].training(scale, count), args.device)
            exact, full = references(workload, args.out_dir / f"options-{name}-{scale:g}.safetensors")
            for method in tqdm(list(option_methods()), desc=f"options, {name}, scale {scale:g}", unit="row", leave=False):
                if store.find(label=method.label, budget=method.budget) is None:
                    store.add(row(workload, method, sampled(workload, method), exact, full))
            yield name, scale, [found for found in store.rows if found["family"].startswith(OURS)]


def option_table(found, most=12):
    """The options that lose least to the best of them on any of ``found``, (workload, scale, rows) each; the default is marked.

    What is ranked is the mean over pictures, budgets and solvers, a column for each workload.
    """
    columns = {f"{name}, {scale:g}": _means(rows) for name, scale, rows in found}
    best = {title: max(means.values()) for title, means in columns.items()}
    lost = {label: max(best[title] - columns[title][label] for title in columns) for label in next(iter(columns.values()))}
    quantity = Forecast().quantity_on(noisy=False)  # where a sampler's steps are not known; else forecasts are left to `landing`
    chosen = named(Forecast().coordinate_of(quantity), Forecast().basis, quantity, Settings().order_on(False, False, 1))
    lines = [f"{'':<4} {'options':<34}" + "".join(f"{title:>14}" for title in (*columns, "loses up to"))]
    for rank, label in enumerate(sorted(lost, key=lost.get), start=1):
        if rank <= most or label == chosen:
            cells = [*(means[label] for means in columns.values()), lost[label]]
            lines.append(
                f"{rank:>4} {label:<34}" + "".join(f"{value:>14.1f}" for value in cells) + "  <- default" * (label == chosen)
            )
    return "\n".join(lines)


def _means(rows):
    """{options: their mean dB over pictures, budgets and solvers}."""
    by_label = {}
    for each in rows:
        by_label.setdefault(each["label"].rpartition(",")[0], []).append(summary(each["exact_dB"])[0])
    return {label: fmean(means) for label, means in by_label.items()}
