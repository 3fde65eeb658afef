"""Forecasting inside the network against forecasting its output: decibels, seconds, and memory in fresh processes."""

import os
from functools import partial
from statistics import fmean

from tqdm import tqdm

from .compare import references
from .costs import FEATURES, FULL, beside, forms
from .devices import moved
from .fits import fit
from .kinds import KINDS
from .measure import row, sampled
from .memory import in_fresh_process
from .methods import CALIBRATED, DEFAULT, Method, ours
from .peers import features
from .peers.hooks import best_hooks
from .store import Store
from .tables import three

BUDGETS, OWN_BUDGETS, ORDERS = (5, 8, 13), (5, 6, 8, 10, 13), (1, 2)
SCALES = (1.0, 2.5)
ON_EMBEDDED, ON_INFDIT = "bench.costs:measure_one", "bench.infdit:measure_one"
BATCH = {"scale": 1.0, "count": 4, "size": 96}  # of the embedded model, in fresh processes


def methods(fits):
    """Features at each order and budget, on even nodes and on ours, and what diffusers' own count of steps would make of Heun."""
    package = best_hooks().package
    for order in ORDERS:
        for budget in BUDGETS:
            begin = partial(features.begin, budget=budget, order=order)
            yield Method(f"TaylorSeer {order}, features ({package})", FEATURES, budget, begin)
            yield Method(f"TaylorSeer {order}, features, each visit a step", FEATURES, budget, partial(begin, reading="visits"))
            if budget in fits.plans:
                yield Method(
                    f"TaylorSeer {order}, features, our nodes", FEATURES, budget, partial(begin, plan=fits.plans[budget])
                )
    yield from (method for method in ours(OWN_BUDGETS, fits) if method.label in (DEFAULT, CALIBRATED))


def compared(args, scale):
    """Rows of features and of ours on the embedded model, timed one after the other in this process."""
    kind = KINDS["embedded"]
    count = args.pictures or kind.pictures
    made = kind.made(scale, pictures=count, **elsewhere(args))
    store = Store(args.out_dir / f"features-{scale:g}.jsonl", made, device=args.device)
    workload = moved(kind.held_out(scale, count), args.device)
    exact, full = references(workload, args.out_dir / f"{kind.name}-{scale:g}.safetensors")
    seen_by = args.training or kind.fitted_on
    todo = list(methods(fit(kind, scale, OWN_BUDGETS, args.out_dir / "fits", seen_by, args.device)))
    for method in tqdm(todo, desc=f"features, scale {scale:g}", unit="row", leave=False):
        if store.find(label=method.label, budget=method.budget) is None:
            store.add(row(workload, method, sampled(workload, method), exact, full))
    return store.rows


def memory(args, name, target, **given):
    """Calls, seconds and memory of each of ``forms``, each in a process of its own: rows."""
    given |= elsewhere(args)
    made = {"workload": name, **{key: value for key, value in given.items() if key != "root"}}  # a checkout may lie anywhere
    store = Store(args.out_dir / f"memory-{name}.jsonl", made, device=args.device)
    for form in tqdm(list(forms(BUDGETS[:2])), desc=f"memory, {name}", unit="process", leave=False):
        label = f"{form['form']} {form.get('order', '')}".strip()
        if store.find(label=label, budget=form.get("budget")) is None:
            store.add({"label": label, "budget": form.get("budget"), **in_fresh_process(target, **form, **given)})
    return store.rows


def elsewhere(args):
    """What decides the seconds and the memory beside all else: a device other than the CPU."""
    return {} if args.device == "cpu" else {"device": args.device}


def infdit_root():
    return os.environ.get("INFDIT_ROOT")


def quality_table(scale, rows):
    """Features beside the best of ours at as many calls, and in no more seconds."""
    pictures = len(rows[0]["exact_dB"])
    lines = [f"embedded, scale {scale:g}, {pictures} pictures: features inside the network, dB to the exact solution"]
    lines.append(
        f"{'':<44}{'full passes':>12}{'seconds':>9}{'mean/worst/pooled':>19}{'ours, same calls':>18}{'same seconds':>18}"
    )
    known = [{**found, "dB": fmean(found["exact_dB"])} for found in rows if found["label"] != FULL]
    ours = [found for found in known if found["family"] != FEATURES]
    for found, equal, quick in beside([found for found in known if found["family"] == FEATURES], ours):
        figures = f"{found['calls']:>12g}{found['seconds']:>9.1f}{three(found, width=19)}"
        lines.append(f"{found['label']:<44}{figures}{_of(equal):>18}{_of(quick):>18}")
    lines += [f"{found['label']:<44}{found['calls']:>12g}{found['seconds']:>9.1f}{three(found, width=19)}" for found in ours]
    return "\n".join(lines)


def _of(found):
    return "-" if found is None else f"{found['dB']:.1f} at {found['calls']:g}"


def memory_table(name, rows):
    lines = [f"{name}: each run in a process of its own"]
    heads = ("full passes", "passes", "seconds", "held MiB", "peak - before MiB")
    lines.append(f"{'':<16}" + "".join(f"{head:>18}" for head in heads))
    for found in rows:
        above = found["peak_MiB"] - found["before_MiB"]
        figures = (
            f"{found['calls']:g}",
            f"{found['passes']:g}",
            f"{found['seconds']:.1f}",
            f"{found['held_MiB']:.2f}",
            f"{above:.0f}",
        )
        lines.append(f"{found['label']:<16}" + "".join(f"{figure:>18}" for figure in figures))
    return "\n".join(lines)
