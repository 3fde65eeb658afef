"""A plot for each workload: calls against dB to the exact solution, with intervals over pictures."""

from io import BytesIO

import numpy as np
from PIL import Image

from taylorseer_guider.files import replacing

from .methods import CALIBRATED, DEFAULT, GUIDANCE, OURS, OURS_FITTED, UNFITTED
from .spread import interval, summary
from .tables import ALL_OTHERS, best, budgets_of, full_run
from .workloads import FULL_CALLS

COLOURS = 96
OUR_LOOKS = {DEFAULT: "tab:blue", CALIBRATED: "tab:red"}
ENVELOPES = {"best of others without a fit": (UNFITTED, "black"), "best of all others": (ALL_OTHERS, "dimgrey")}


def pareto(kind, by_scale, path):
    """``by_scale`` {scale: rows}. The mean over pictures above, the worst picture below; ours in colour, others thin and grey."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (4.2 * len(by_scale) + 2.6, 6.4)
    figure, axes = plt.subplots(2, len(by_scale), figsize=size, squeeze=False, sharex="col", layout="constrained")
    handles = {}
    for column, (scale, rows) in zip(axes.T, by_scale.items(), strict=True):
        for panel, which in zip(column, (0, 1), strict=True):
            handles |= draw(panel, rows, which)
        column[0].set_title(f"{kind}, scale {scale:g}")
        column[1].set_xlabel("guided calls")
    axes[0, 0].set_ylabel("dB to the exact solution, mean")
    axes[1, 0].set_ylabel("dB, the worst picture")
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=80)
    plt.close(figure)
    with replacing(path) as partial:  # a quarter of the size with few colours, and lines look the same
        Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(partial, format="PNG")


def draw(panel, rows, which):
    """One panel: ``which`` of (mean, worst). Returns {label: a line for the legend}."""
    full = full_run(rows)
    handles = {f"full run, {FULL_CALLS} calls": panel.axhline(summary(full["exact_dB"])[which], color="grey", linewidth=1)}
    rows = [row for row in rows if row["family"] != GUIDANCE]  # which counts branches
    for family, label in dict.fromkeys((row["family"], row["label"]) for row in rows if row is not full):
        known = sorted((row for row in rows if row["label"] == label), key=lambda row: row["calls"])
        points = [(row["calls"], summary(row["exact_dB"])[which]) for row in known]
        ours = label in OUR_LOOKS
        look = {"color": OUR_LOOKS[label], "linewidth": 2.4, "marker": "o", "zorder": 5} if ours else _thin(family)
        if known[0]["budget"] is None:  # settings, which nothing leads from one to the next
            look |= {"linestyle": "", "marker": "."}
        (line,) = panel.plot(*zip(*points, strict=True), **look)
        if ours and which == 0:
            lows, highs = zip(*(interval(row["exact_dB"]) for row in known), strict=True)
            panel.fill_between([row["calls"] for row in known], lows, highs, color=OUR_LOOKS[label], alpha=0.18)
        handles |= {label: line} if ours else {_named(family): line}
    return handles | _envelopes(panel, rows, which)


def _thin(family):
    return {"color": "tab:green" if family in (OURS, OURS_FITTED) else "silver", "linewidth": 0.8, "alpha": 0.8}


def _named(family):
    return "ours, other options" if family in (OURS, OURS_FITTED) else "others, each"


def _envelopes(panel, rows, which):
    handles, budgets = {}, budgets_of(rows)
    for name, (families, colour) in ENVELOPES.items():
        top = [(budget, best(rows, budget, families)) for budget in budgets]
        known = [(budget, row) for budget, row in top if row is not None]
        if known:
            points = [(budget, summary(row["exact_dB"])[which]) for budget, row in known]
            style = {"color": colour, "linewidth": 2, "linestyle": (0, (4, 2)), "zorder": 4}
            (handles[name],) = panel.plot(*zip(*points, strict=True), **style)
    values = [summary(row["exact_dB"])[which] for row in rows]
    panel.set(xscale="log", ylim=(max(min(values), 10), np.ceil(max(values)) + 2))
    panel.set_xticks([*budgets, FULL_CALLS], [str(tick) for tick in (*budgets, FULL_CALLS)])
    panel.set_xticks([], minor=True)
    panel.grid(alpha=0.25)
    return handles
