"""pareto.png: calls against dB. sheet.png: what the figures look like."""

from io import BytesIO
from itertools import cycle

import numpy as np
from PIL import Image

from pictures import contact_sheet, replacing, write_picture
from taylorseer_guider import tiny

from .methods import OURS
from .tables import best, mean
from .workloads import FULL_CALLS

OUR_COLOURS = {
    "": "tab:blue",
    ", even nodes": "navy",
    ", denoised": "deepskyblue",
    ", eps 2, later": "tab:purple",
    ", adaptive": "tab:green",
    ", calibrated": "tab:red",
}
COLOURS = 128
STYLES = {"fewer steps": "-", "our nodes": "--", "forecasts": "-.", "forecasts, our plan": ":"}


def pareto(rows, path):
    """A panel for each workload and scale; ours thick, the others thin, the best of the others as a black envelope."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys((row["workload"], row["size"]) for row in rows))
    scales = sorted({row["scale"] for row in rows})
    figure, axes = plt.subplots(
        len(kinds), len(scales), figsize=(5.2 * len(scales) + 3.2, max(4.6 * len(kinds), 7)), squeeze=False, layout="constrained"
    )
    others = dict.fromkeys(row["label"] for row in rows if row["family"] not in (OURS, "full run"))
    colours = plt.colormaps["turbo"](np.linspace(0.05, 0.95, max(len(others), 1)))
    looks = {label: {"color": c, "marker": m} for label, c, m in zip(others, colours, cycle("osv^DPX*"), strict=False)}
    handles = {}
    for (name, size), line in zip(kinds, axes, strict=True):
        for scale, panel in zip(scales, line, strict=True):
            known = [row for row in rows if (row["workload"], row["size"], row["scale"]) == (name, size, scale)]
            if known:
                handles |= draw(panel, known, looks)
                panel.set_title(f"{name}, {size} px, scale {scale:g}")
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, handlelength=3)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=110)
    plt.close(figure)
    with replacing(path) as partial:  # a quarter of the size with few colours, and lines look the same
        Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(partial, format="PNG")


def draw(panel, rows, looks):
    """One panel. Returns {label: a line for the legend}."""
    handles = {}
    full = mean([row for row in rows if row["label"] == "full run"])
    handles[f"full run, {FULL_CALLS} calls"] = panel.axhline(full, color="grey", linewidth=1)
    for family, label in dict.fromkeys((row["family"], row["label"]) for row in rows if row["family"] != "full run"):
        points = curve([row for row in rows if row["label"] == label])
        if family == OURS:
            colour = OUR_COLOURS[label.removeprefix("TaylorSeerGuider")]
            look = {"color": colour, "linewidth": 2.8, "marker": "o", "markersize": 6, "zorder": 5}
        else:
            look = {**looks[label], "linewidth": 1, "markersize": 3.5, "linestyle": STYLES[family], "alpha": 0.8}
        (handles[label],) = panel.plot(*zip(*points, strict=True), label=label, **look)
    budgets = sorted({row["budget"] for row in rows if row["budget"]})
    top = [(budget, best(rows, budget, ours=False)) for budget in budgets]
    envelope = [(budget, found[0]) for budget, found in top if found]
    if envelope:
        (line,) = panel.plot(*zip(*envelope, strict=True), color="black", linewidth=2.4, linestyle=(0, (4, 2)), zorder=4)
        handles["best of the others"] = line
    highest = max(row["exact_dB"] for row in rows if row["exact_dB"] is not None)
    panel.set(xscale="log", xlabel="denoiser calls", ylabel="dB to the exact solution", ylim=(15, max(highest + 3, 20)))
    ticks = sorted({*budgets, FULL_CALLS})
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.set_xticks([], minor=True)
    panel.grid(alpha=0.25)
    return handles


def curve(rows):
    """[(calls, mean dB)] by calls: a point for each budget, or for each setting of a method without budgets."""
    groups = {}
    for row in rows:
        groups.setdefault(row["budget"] or row["setting"], []).append(row)
    return sorted((mean(group, "calls"), mean(group)) for group in groups.values())


def sheet(shown, path, budgets):
    """``shown``: [(rows, pictures)] of a workload each, as ``measure`` returns them. A row of crops for each of them."""
    panels = {}
    for rows, pictures in shown:
        scale = rows[0]["scale"]
        panels[f"exact solution\nscale {scale:g}"] = pictures["exact"]
        full = mean([row for row in rows if row["label"] == "full run"])
        panels[f"full run, {FULL_CALLS} calls\n{full:.1f} dB, scale {scale:g}"] = pictures["full run"]
        for budget in budgets:
            for ours in (True, False):
                dB, label = best(rows, budget, ours)
                panels[f"{label}\n{budget} calls, {dB:.1f} dB, scale {scale:g}"] = pictures[label, budget]
    crops = {caption: tiny.to_uint8(picture)[0].numpy() for caption, picture in panels.items()}
    write_picture(path, contact_sheet(crops, columns=2 + 2 * len(budgets)))
