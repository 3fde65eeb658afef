"""What of our calibration brings what, and what GS trains beside it: does it help on pictures that it was not fitted on?"""

from tqdm import tqdm

from . import BUDGETS
from .compare import references
from .devices import moved
from .fits import GRADIENTS, fit
from .kinds import KINDS
from .measure import row, timed
from .methods import Method, at_once
from .peers import ablations
from .store import Store
from .tables import three

BUDGET = 6
KINDS_OF = {  # what is fitted, and how the table calls it
    "none": "`calls` alone",
    "landed": "weights that land each answer, no gradient",
    "sigmas": "sigmas of the calls alone",
    "weights": "weights alone",
    "both": "sigmas and weights, as calibrated",
    "told": "and the sigma that the network is told",
}


def measured(args, name, scale):
    """Rows of the training batch and of the held-out one for each of ``KINDS_OF``, at ``BUDGET`` calls."""
    kind = KINDS[name]
    count, seen_by = args.pictures or kind.pictures, args.training or kind.fitted_on
    made = kind.made(scale, pictures=count, training=seen_by, gradients=GRADIENTS)
    store = Store(args.out_dir / f"ablations-{name}-{scale:g}.jsonl", made, device=args.device)
    fits = fit(kind, scale, kind.budgets or BUDGETS, args.out_dir / "fits", seen_by, args.device)
    batch, target, workload = fits.batch, fits.exact(), moved(kind.held_out(scale, count), args.device)
    exact, full = references(workload, args.out_dir / f"{name}-{scale:g}.safetensors")
    seen = batch.pictures(target).cpu()
    for which, label in tqdm(KINDS_OF.items(), desc=f"ablations, {name}, scale {scale:g}", unit="fit", leave=False):
        if store.find(table="held-out", label=label, budget=BUDGET) is None:
            found = ablations.fit_ablation(batch, BUDGET, which, GRADIENTS, target)
            method = Method(label, "ablations", BUDGET, at_once(ablations.sample, found))
            for table, one, near in (("trained on", batch, (seen, seen)), ("held-out", workload, (exact, full))):
                store.add({**row(one, method, timed(one, method.begin), *near), "table": table})
    return [found for found in store.rows if found.get("table")]


def table(name, scale, rows):
    pictures = {found["table"]: len(found["exact_dB"]) for found in rows}
    lines = [f"{name}, scale {scale:g}, {BUDGET} calls: dB to the exact solution, mean/worst/pooled"]
    lines.append(f"{'':<50}" + "".join(f"{f'{table}, {count}':>20}" for table, count in pictures.items()))
    for label in dict.fromkeys(found["label"] for found in rows):
        cells = [three(found, width=20) for found in rows if found["label"] == label]
        lines.append(f"{label:<50}" + "".join(cells))
    return "\n".join(lines)
