"""What a calibration does to pictures that it was not fitted on the like of: the one that ships with the embedded model."""

from functools import partial

from tqdm import tqdm

from .compare import about, references
from .devices import moved
from .kinds import shipped_for
from .measure import row, sampled
from .methods import CALIBRATED, DEFAULT, OURS, OURS_FITTED, SOLVERS, Method, at_once, host, solved
from .peers.solvers import available
from .store import Store
from .tables import at, best, of_table, two
from .workloads import unlike

BUDGETS, PICTURES, SCALE = (5, 8, 10), 8, 1.0
RIVALS = ("DPM++2M", "iPNDM4")


def compared(args):
    """Rows of ours, calibrated and not, and of ``RIVALS``, for each kind of picture, which is the row's ``table``."""
    count = args.pictures or PICTURES
    store = Store(args.out_dir / "unlike.jsonl", {"pictures": count, "scale": SCALE}, about(), args.device)
    todo = list(methods([budget for budget in BUDGETS if budget in args.budgets]))
    for kind in tqdm(unlike.MAKERS, desc="unlike", unit="kind", leave=False):
        workload = moved(unlike.pictures(kind, count, scale=SCALE), args.device)
        near = references(workload, args.out_dir / f"unlike-{kind.replace('/', 'by').replace(' ', '-')}.safetensors")
        for method in todo:
            if store.find(table=kind, label=method.label, budget=method.budget) is None:
                store.add({**row(workload, method, sampled(workload, method), *near), "table": kind})
    return store.rows


def methods(budgets):
    path = shipped_for(SCALE)
    for budget in budgets:
        yield Method(CALIBRATED, OURS_FITTED, budget, partial(host, options={"calibration": str(path), "calls": budget}))
        yield Method(DEFAULT, OURS, budget, partial(host, options={"calls": budget}))
        for name in RIVALS:
            yield Method(name, SOLVERS, budget, at_once(solved, available()[0][name], budget, None))


def table(rows):
    """Mean/worst dB of each kind of picture: a column a method and number of calls; of ``RIVALS`` the nearer, and its name."""
    budgets = list(dict.fromkeys(found["budget"] for found in rows))
    lines = [f"embedded, scale {SCALE:g}, {len(rows[0]['exact_dB'])} pictures of each kind: dB to the exact solution, mean/worst"]
    lines.append(f"{'calls':<6}{'':<14}{'calibrated':>12}{'`calls` alone':>15}{'a solver':>12}")
    for budget in budgets:
        for kind in dict.fromkeys(found["table"] for found in rows):
            same = of_table(rows, kind)
            solver = best(same, budget, (SOLVERS,))
            cells = two(at(same, CALIBRATED, budget), 12) + two(at(same, DEFAULT, budget), 15) + two(solver, 12)
            lines.append(f"{budget:<6}{kind:<14}{cells} {solver['label']}")
    return "\n".join(lines)
