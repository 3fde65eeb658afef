"""Rows as text: dB over pictures by budget, who is nearest and how sure that is, and what follows the eye."""

from statistics import fmean

from .methods import CALIBRATED, DEFAULT, FITTED, GUIDANCE, SOLVERS_ON_PLAN, UNFITTED
from .spread import difference, summary

WIDE = 37
ALL_OTHERS = (*UNFITTED, SOLVERS_ON_PLAN, FITTED)
AGAINST = {UNFITTED: "the best without a fit", ALL_OTHERS: "the best of all others"}
DUELS = {DEFAULT: UNFITTED, CALIBRATED: ALL_OTHERS}  # ours, and whose best it is held against


def measured(rows):
    """The rows of the comparison itself, without those of other tables."""
    return [row for row in rows if not row.get("table")]


def of_table(rows, name):
    """The rows of the table ``name`` as if they were those of a comparison of its own."""
    return [{**row, "table": None} for row in rows if row["table"] == name]


def at(rows, label, budget):
    """The row of ``label`` at ``budget`` calls, or None."""
    return next((row for row in measured(rows) if row["label"] == label and row["budget"] == budget), None)


def full_run(rows):
    return next(row for row in rows if row["label"] == "full run")


def budgets_of(rows):
    return sorted({row["budget"] for row in rows if row["budget"] and row["label"] != "full run"})


def best(rows, budget, families):
    """The row of the nearest method of ``families`` at ``budget`` by the mean over pictures, or None."""
    known = [row for row in measured(rows) if row["budget"] == budget and row["family"] in families]
    return max(known, key=lambda row: summary(row["exact_dB"])[0], default=None)


def three(row, key="exact_dB", width=17):
    """mean/worst/pooled of a row, or a dash."""
    return f"{'-' if row is None else '/'.join(f'{value:.1f}' for value in summary(row[key])):>{width}}"


def two(row, width=14):
    """mean/worst of a row, or a dash."""
    return f"{'-' if row is None else '/'.join(f'{value:.1f}' for value in summary(row['exact_dB'])[:2]):>{width}}"


def title(kind, scale, rows):
    full = full_run(rows)
    pictures, cost = len(full["exact_dB"]), f"{full['calls']} calls, {full['branches']:.0f} branches"
    return f"{kind}, scale {scale:g}, {pictures} pictures (full run, {cost}: {three(full, width=0)})"


def budget_table(kind, scale, rows):
    """dB to the exact solution, mean/worst/pooled over pictures: a line a method, a column a budget; then the duels."""
    rows = measured(rows)
    budgets = budgets_of(rows)
    lines = [f"{title(kind, scale, rows)}: dB to the exact solution, mean/worst/pooled over pictures"]
    lines.append(f"{'guided calls':<{WIDE}}" + "".join(f"{budget:>17}" for budget in budgets))
    per_call = 1 if scale == 1 else 2
    lines.append(f"{'branches':<{WIDE}}" + "".join(f"{budget * per_call:>17}" for budget in budgets))
    labels = dict.fromkeys(row["label"] for row in rows if row["budget"] and row["label"] != "full run")
    lines += [f"{label:<{WIDE}}" + "".join(three(at(rows, label, budget)) for budget in budgets) for label in labels]
    for ours, families in DUELS.items():
        lines += duel(rows, budgets, ours, families)
    return "\n".join([*lines, *chosen(rows)])


def short_table(kind, scale, rows):
    """Of ``budget_table`` only ours and whom they are held against."""
    rows = measured(rows)
    budgets = budgets_of(rows)
    lines = [title(kind, scale, rows), f"{'guided calls':<{WIDE}}" + "".join(f"{budget:>17}" for budget in budgets)]
    for ours, families in DUELS.items():
        lines.append(f"{ours:<{WIDE}}" + "".join(three(at(rows, ours, budget)) for budget in budgets))
        nearest = [best(rows, budget, families) for budget in budgets]
        lines.append(f"{AGAINST[families]:<{WIDE}}" + "".join(map(three, nearest)))
        lines.append(
            f"{'':<{WIDE}}" + "".join(f"{'' if row is None else row['label'].split(' (')[0][:16]:>17}" for row in nearest)
        )
        lines.append(duel(rows, budgets, ours, families)[2])
    return "\n".join(lines)


def duel(rows, budgets, ours, families):
    """``ours`` - the best of ``families``: the mean over pictures with its interval, of the worst, and who it is."""
    pairs = {budget: (at(rows, ours, budget), best(rows, budget, families)) for budget in budgets}
    pairs = {budget: pair for budget, pair in pairs.items() if None not in pair}
    if not pairs:
        return [f"{ours}: not measured"] * 3
    means, sure, worst = [], [], []
    for budget in budgets:
        mean = low = high = bottom = None
        if budget in pairs:
            mine, theirs = (row["exact_dB"] for row in pairs[budget])
            (mean, low, high), bottom = difference(mine, theirs), summary(mine)[1] - summary(theirs)[1]
        means.append(f"{'-' if mean is None else f'{mean:+.1f}':>17}")
        sure.append(f"{'-' if mean is None else f'[{low:+.1f}, {high:+.1f}]':>17}")
        worst.append(f"{'-' if bottom is None else f'{bottom:+.1f}':>17}")
    named = ", ".join(f"{budget}: {theirs['label']}" for budget, (_, theirs) in pairs.items())
    return [
        f"{ours} - {AGAINST[families]} ({named})",
        f"{'  mean over pictures':<{WIDE}}" + "".join(means),
        f"{'  95 % of the mean difference':<{WIDE}}" + "".join(sure),
        f"{'  worst picture':<{WIDE}}" + "".join(worst),
    ]


def chosen(rows):
    """Methods that choose their calls themselves: "setting: mean/worst/pooled at calls"."""
    free = [row for row in rows if row["budget"] is None and row["family"] != GUIDANCE]
    for label in dict.fromkeys(row["label"] for row in free):
        same = [row for row in free if row["label"] == label]
        found = (f"{row['setting']}: {three(row, width=0)} at {row['calls']:.1f}" for row in same)
        yield f"{label:<{WIDE}}" + ", ".join(found)


def branch_table(kind, scale, rows):
    """At scales above 1, by branches of the network: those who save branches beside ours and the best of who saves calls."""
    budgets = budgets_of(measured(rows))
    lines = [f"{kind}, scale {scale:g}: dB to the exact solution by branches of the network, mean/worst/pooled (branches made)"]
    lines.append(f"{'branches':<{WIDE}}" + "".join(f"{2 * budget:>25}" for budget in budgets))
    held = {ours: [at(rows, ours, budget) for budget in budgets] for ours in DUELS}
    held["best of others without a fit"] = [best(rows, budget, UNFITTED) for budget in budgets]
    held["best of all others"] = [best(rows, budget, ALL_OTHERS) for budget in budgets]
    cheap = {(row["label"], row["setting"]): row for row in rows if row["family"] == GUIDANCE}
    aims = [2 * budget for budget in budgets]
    held |= {label: [cheap.get((label, aim)) for aim in aims] for label, setting in cheap if setting in aims}
    held |= {label: [row] for (label, setting), row in cheap.items() if setting not in aims}
    lines += [f"{label:<{WIDE}}" + "".join(map(branch_cell, cells)) for label, cells in held.items()]
    return "\n".join(lines)


def branch_cell(row):
    text = "-" if row is None else f"{three(row, width=0)} ({row['branches']:.1f})"
    return f"{text:>25}"


def duellists(rows, budget):
    """Ours and whom they are held against, at ``budget``: rows, each once."""
    found = [at(rows, label, budget) for label in DUELS] + [best(rows, budget, families) for families in DUELS.values()]
    return list({row["label"]: row for row in found if row is not None}.values())


def seen_table(kind, scale, rows):
    """What follows the eye: SSIM, FLIP (0 is best), SSIMULACRA2 (100 is best), mean over pictures (worst)."""
    lines = [f"{kind}, scale {scale:g}: to the exact solution, mean over pictures (worst)"]
    lines.append(f"{'':<{WIDE}}" + "".join(f"{n:>17}" for n in ("calls", "SSIM", "FLIP", "SSIMULACRA2")))
    for row in sorted((row for row in rows if row.get("table") == "seen"), key=lambda row: row["budget"]):
        cells = [seen(row, "SSIM", min, 4), seen(row, "FLIP", max, 4), seen(row, "SSIMULACRA2", min, 1)]
        lines.append(f"{row['label']:<{WIDE}}{row['calls']:>17}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


def seen(row, key, worst, digits):
    """mean (worst) of a figure, or a dash where it is not there."""
    values = [value for value in row[key] if value is not None]
    return f"{fmean(values):.{digits}f} ({worst(values):.{digits}f})" if values else "-"
