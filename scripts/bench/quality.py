"""What a thousand pictures are worth, whatever they are near to: shown as asked, and alike to real ones as a crowd.

At high guidance nearness to the exact solution is not all. A classifier says how many show the class that was asked for, and
its features how far the crowd is from real pictures that neither network was trained on (a Frechet distance).
"""

import torch
from tqdm import tqdm

from .devices import moved
from .fashion.classifier import frechet as distance
from .fashion.classifier import judge, load, moments
from .fits import fit
from .kinds import KINDS
from .measure import sampled
from .methods import CALIBRATED, DEFAULT, FULL_RUN, UNFITTED, methods
from .store import Store
from .tables import ALL_OTHERS, at, best
from .workloads.fashion import labels

TABLE, BATCH = "quality", 100


def measured(args, scale, rows, budgets, count=1000):
    """A row for the full run, ours and the two best peers of ``rows`` (the comparison's) at each of ``budgets``."""
    kind = KINDS["fashion"]
    seen_by = args.training or kind.fitted_on
    made = {"workload": kind.name, "scale": scale, "pictures": count, "training": seen_by}
    store = Store(args.out_dir / f"quality-{scale:g}.jsonl", made, device=args.device)
    known, _ = methods(budgets, fit(kind, scale, kind.budgets, args.out_dir / "fits", seen_by, args.device), kind.wants)
    todo = [FULL_RUN, *(method for budget in budgets for method in picked(known, rows, budget))]
    workload, classifier = moved(kind.held_out(scale, count), args.device), load()
    for method in tqdm(todo, desc=f"{count} pictures, scale {scale:g}", unit="method", leave=False):
        if store.find(table=TABLE, label=method.label, budget=method.budget) is None:
            store.add(judged(workload, method, classifier))
    return [store.find(table=TABLE, label=method.label, budget=method.budget) for method in todo]


def picked(known, rows, budget):
    """Ours, and the nearest of others: of those without a fit, and of all; the second one where both are one."""
    labels = [label for label in (DEFAULT, CALIBRATED) if at(rows, label, budget)]
    found = [best(rows, budget, UNFITTED), best(rows, budget, ALL_OTHERS)]
    if found[0] == found[1]:
        found[1] = best([row for row in rows if row is not found[0]], budget, ALL_OTHERS)
    labels += [row["label"] for row in found if row is not None]
    return [method for method in known if method.budget == budget and method.label in labels]


def judged(workload, method, classifier):
    """Accuracy on the asked class, and the Frechet distance to real pictures; the classifier is on the CPU."""
    parts = [workload.part(slice(n, n + BATCH)) for n in range(0, len(workload.noise), BATCH)]
    results = [sampled(part, method) for part in tqdm(parts, desc=method.label, unit="batch", leave=False)]
    pictures = torch.cat([part.pictures(result[0]).cpu() for part, result in zip(parts, results, strict=True)])
    found, features = judge(classifier, pictures)
    return {
        "table": TABLE, "label": method.label, "family": method.family, "budget": method.budget,
        "calls": results[0][1], "branches": results[0][2],
        "accuracy": (found == labels(len(found))).double().mean().item(),
        "frechet": distance(moments(features), (classifier.mean, classifier.covariance)),
    }  # fmt: skip


def table(scale, rows, count):
    lines = [f"fashion, scale {scale:g}: {count} pictures by a classifier; shown as asked, Frechet distance to real pictures"]
    lines.append(f"{'':<33}" + "".join(f"{name:>12}" for name in ("calls", "branches", "as asked", "Frechet")))
    for row in rows:
        cells = [f"{row['calls']:g}", f"{row['branches']:g}", f"{100 * row['accuracy']:.1f} %", f"{row['frechet']:.3f}"]
        lines.append(f"{row['label']:<33}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)
