"""What the guider learns from one picture: learnt on a training picture, judged on held-out ones."""

from functools import partial

import torch

from .compare import about, references
from .devices import moved
from .measure import row, sampled
from .methods import DEFAULT, OURS, OURS_FITTED, UNFITTED, Method, host
from .spread import difference
from .store import Store, contents
from .tables import CALIBRATED, WIDE, at, best, measured, three, two
from .workloads import FULL_CALLS, NODES, sampler_of

LEARNT = "TaylorSeerGuider, learnt"
BUDGETS = (5, 8, 10)


def compared(args, kind, scale):
    """Rows of `calls` alone and of what was learnt from one training picture, which also say what learning cost."""
    count = args.pictures or kind.pictures
    workload = moved(kind.held_out(scale, count), args.device)
    made = kind.made(scale, pictures=count, training=1)
    store = Store(args.out_dir / f"learnt-{kind.name}-{scale:g}.jsonl", made, about(), args.device)
    exact, full = references(workload, args.out_dir / f"{kind.name}-{scale:g}.safetensors")
    for budget in (budget for budget in BUDGETS if budget in args.budgets and budget < NODES):
        alone = Method(DEFAULT, OURS, budget, partial(host, options={"calls": budget}))
        if store.find(label=DEFAULT, budget=budget) is None:
            store.add(row(workload, alone, sampled(workload, alone), exact, full))
        if store.find(label=LEARNT, budget=budget) is None:
            sampler, cost = taught(moved(kind.training(scale, 1), args.device), budget)
            begin = lambda workload, of=sampler: partial(of, workload.network, workload.noise, workload.cond, workload.uc)  # noqa: E731
            method = Method(LEARNT, OURS_FITTED, budget, begin)
            store.add({**row(workload, method, sampled(workload, method), exact, full), "cost": cost})
    return store.rows


@torch.no_grad()
def taught(first, budget):
    """(a sampler that has made the one picture of ``first``, the calls that this took with all that it learnt)."""
    sampler = sampler_of(first, {"calls": budget, "learn": True})
    sampler(first.network, first.noise, first.cond, first.uc)
    return sampler, first.calls


def rows_in(path):
    """The rows of a comparison that are on disk, if any are."""
    return measured(contents(path)[0][1:]) if path.exists() else []


def summary(folder, todo):
    """Of each (workload, scale) of ``todo``, from ``folder``: dB of `calls` alone, of what was learnt, and of others."""
    lines = [
        f"{'dB, mean/worst':<16}" + "".join(f"{f'{calls} calls: alone':>17}{'learnt':>11}{'others':>11}" for calls in BUDGETS)
    ]
    for kind, scale in todo:
        rows, others = (rows_in(folder / f"{name}-{scale:g}.jsonl") for name in (f"learnt-{kind}", kind))
        cells = []
        for budget in BUDGETS:
            nearest = best(others, budget, UNFITTED)
            cells += [two(at(rows, DEFAULT, budget), 17), two(at(rows, LEARNT, budget), 11), two(nearest, 11)]
        lines.append(f"{f'{kind}, {scale:g}':<16}" + "".join(cells))
    return "\n".join(lines)


def table(kind, scale, rows, others):
    """Beside the rows of ``others``: mean/worst/pooled, and the calls of learning."""
    budgets = [budget for budget in BUDGETS if at(rows, LEARNT, budget)]
    lines = [f"{kind}, scale {scale:g}: learnt from one picture", f"{'calls':<{WIDE}}" + "".join(f"{b:>17}" for b in budgets)]
    for label, of in {
        f"{DEFAULT}, `calls` alone": lambda budget: at(rows, DEFAULT, budget),
        LEARNT: lambda budget: at(rows, LEARNT, budget),
        CALIBRATED: lambda budget: at(others, CALIBRATED, budget),
        "the best without a fit": lambda budget: best(others, budget, UNFITTED),
    }.items():
        lines.append(f"{label:<{WIDE}}" + "".join(three(of(budget)) for budget in budgets))
    pairs = [(at(rows, LEARNT, budget), best(others, budget, UNFITTED)) for budget in budgets]
    apart = [None if b is None else difference(a["exact_dB"], b["exact_dB"]) for a, b in pairs]
    means = ["-" if each is None else f"{each[0]:+.1f}" for each in apart]
    sure = ["-" if each is None else f"[{each[1]:+.1f}, {each[2]:+.1f}]" for each in apart]
    for name, cells in (("  learnt - the best without a fit", means), ("  95 % of that mean", sure)):
        lines.append(f"{name:<{WIDE}}" + "".join(f"{cell:>17}" for cell in cells))
    costs = [at(rows, LEARNT, budget)["cost"] for budget in budgets]
    lines.append(f"{f'  calls to learn, of {2 * FULL_CALLS} at most':<{WIDE}}" + "".join(f"{cost:>17}" for cost in costs))
    return "\n".join(lines)
