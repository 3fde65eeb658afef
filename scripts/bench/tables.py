"""Rows as text: PSNR by budget, who is nearest, what calls cost, half precision, other sizes, the price of a forecast."""

from statistics import fmean

from .methods import OURS
from .workloads import FULL_CALLS

WIDE = 32


def report(results):
    """All tables of ``results``, the content of results.json."""
    rows = results["rows"]
    groups = dict.fromkeys((row["workload"], row["size"], row["scale"]) for row in rows)
    parts = [budget_table([row for row in rows if (row["workload"], row["size"], row["scale"]) == g], *g) for g in groups]
    parts.insert(0, ", ".join(f"{name} {found}" for name, found in results["about"]["packages"].items() if found))
    parts.append(cost_table(rows))
    if results.get("clock"):
        parts.append(clock_table(results["clock"]))
    if results.get("bfloat16"):
        parts.append(floor_table(results["bfloat16"]))
    if results.get("sizes"):
        parts.append(size_table(results["sizes"]))
    if results.get("forecast_cost"):
        parts.append(forecast_table(results["forecast_cost"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def mean(rows, key="exact_dB"):
    """The mean over seeds; None without rows."""
    values = [row[key] for row in rows if row[key] is not None]
    return fmean(values) if values else None


def cell(value, digits=1, width=7):
    return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"


def at(rows, label, budget):
    return [row for row in rows if row["label"] == label and row["budget"] == budget]


def best(rows, budget, ours):
    """(dB, label) of the nearest of our lines, or of all others, at ``budget``; None where there is none."""
    labels = dict.fromkeys(row["label"] for row in rows if row["budget"] == budget and (row["family"] == OURS) == ours)
    found = [(mean(at(rows, label, budget)), label) for label in labels]
    return max(found) if found else None


def budget_table(rows, workload, size, scale):
    """dB to the exact solution: a line a method, a column a budget; then the lines that choose their calls themselves."""
    budgets = sorted({row["budget"] for row in rows if row["budget"]})
    full = mean([row for row in rows if row["label"] == "full run"])
    head = f"{workload}, {size} px, scale {scale:g}: dB to the exact solution by denoiser calls"
    lines = [f"{head} (full run, {FULL_CALLS} calls: {cell(full, width=0)})"]
    lines.append(f"{'':<{WIDE}}" + "".join(f"{budget:>7}" for budget in budgets))
    for _, label in dict.fromkeys((row["family"], row["label"]) for row in rows if row["budget"]):
        lines.append(f"{label:<{WIDE}}" + "".join(cell(mean(at(rows, label, budget))) for budget in budgets))
    pairs = [(best(rows, budget, True), best(rows, budget, False)) for budget in budgets]
    margins = [ours[0] - other[0] if ours and other else None for ours, other in pairs]
    lines.append(f"{'ours - best of the others':<{WIDE}}" + "".join(cell(margin) for margin in margins))
    lines.append(
        "best of the others: " + ", ".join(f"{b}: {other[1]}" for b, (_, other) in zip(budgets, pairs, strict=True) if other)
    )
    free = [row for row in rows if row["budget"] is None and row["label"] != "full run"]
    swept = {
        label: sweep([row for row in free if row["label"] == label]) for label in dict.fromkeys(row["label"] for row in free)
    }
    return "\n".join([*lines, *(f"{label:<{WIDE}}" + ", ".join(found) for label, found in swept.items())])


def sweep(rows):
    """For each setting of a method that chooses its calls itself: "setting: mean dB at mean calls"."""
    for setting in dict.fromkeys(row["setting"] for row in rows):
        same = [row for row in rows if row["setting"] == setting]
        yield f"{setting:g}: {cell(mean(same), width=0)} at {mean(same, 'calls'):g}"


def cost_table(rows):
    """Our lines, the mean over all that the embedded model sampled: fidelity to the full run and sharpness."""
    rows = [row for row in rows if row["workload"] == "embedded"]
    lines = ["embedded, ours, mean over sizes, scales and seeds: fidelity to the full run, sharpness over the exact solution's"]
    lines.append(f"{'':<{WIDE}}" + "".join(f"{name:>9}" for name in ("calls", "dB full", "SSIM", "sharp")))
    for label, budget in dict.fromkeys((r["label"], r["budget"]) for r in rows if r["family"] == OURS and r["budget"]):
        known = at(rows, label, budget)
        cells = [cell(mean(known, "full_dB"), 1, 9), cell(mean(known, "full_SSIM"), 4, 9), cell(mean(known, "sharpness"), 3, 9)]
        lines.append(f"{label:<{WIDE}}{budget:>9}" + "".join(cells))
    return "\n".join(lines) if len(lines) > 2 else ""


def clock_table(rows):
    head = f"wall clock beside the full run (embedded): speed-up, ideally {FULL_CALLS} / calls"
    lines = [f"{head}; share of a run spent outside the network"]
    lines.append(f"{'':<{WIDE}}" + "".join(f"{name:>9}" for name in ("size", "calls", "ideal", "speed-up", "outside")))
    for row in rows:
        cells = [f"{row['size']:>6} px", f"{row['calls']:>9}", cell(FULL_CALLS / row["calls"], 2, 9)]
        lines.append(f"{row['label']:<{WIDE}}" + "".join(cells) + cell(row["speed_up"], 2, 9) + cell(row["outside"], 3, 9))
    return "\n".join(lines)


def floor_table(rows):
    lines = ["what a bfloat16 network changes, and what 8 calls change (embedded; dB to the float32 exact solution and full run)"]
    lines.append(f"{'scale':>5} {'':<40}{'calls':>6}{'exact':>8}{'full':>8}")
    for row in rows:
        dB = cell(row["exact_dB"], 1, 8) + cell(row["full_dB"], 1, 8)
        lines.append(f"{row['scale']:>5g} {row['label']:<40}{row['calls']:>6}{dB}")
    return "\n".join(lines)


def size_table(rows):
    """The full run and our calibrated ones at every size."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    lines = ["what another size changes: all held-out crops at once, one seed, dB to the exact solution (embedded)"]
    lines.append(f"{'scale':>5} {'':<40}{'calls':>6}" + "".join(f"{f'{size} px':>8}" for size in sizes))
    for scale, label, calls in dict.fromkeys((row["scale"], row["label"], row["calls"]) for row in rows):
        same = [row for row in rows if (row["scale"], row["label"], row["calls"]) == (scale, label, calls)]
        cells = (cell(mean([row for row in same if row["size"] == size]), 1, 8) for size in sizes)
        lines.append(f"{scale:>5g} {label:<40}{calls:>6}" + "".join(cells))
    return "\n".join(lines)


def forecast_table(rows):
    lines = ["one forecast visit against one fused pass (a matrix-vector product) over what it reads"]
    for row in rows:
        figures = f"visit {row['visit_ms']:.2f} ms, pass {row['pass_ms']:.2f} ms, ratio {row['ratio']:.2f}"
        shape = "x".join(map(str, row["shape"]))
        lines.append(f"{shape:<13} {row['label']:<20} reads {row['reads']}: {figures}")
    return "\n".join(lines)
