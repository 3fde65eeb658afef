"""The map as one picture: where outputs go, how far off forecasts of them are, and what few calls come to."""

import os
import textwrap
from importlib.util import find_spec
from io import BytesIO

from PIL import Image

from ...engines.errors import UserError
from ...files import replacing
from .panels import EMPTY, FAINT, INK, Sight, quiet

COLOURS = 255
HIGHEST = 85  # dB that are drawn: beyond, nobody can tell
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "axes.titlesize": 10.5, "axes.titlelocation": "left", "axes.titlepad": 8,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "axes.titlecolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "legend.frameon": False,
    "legend.fontsize": 8.5, "figure.facecolor": "white", "axes.facecolor": "white",
}  # fmt: skip


def require():
    """UserError where there is nothing to draw with, before anything is run."""
    if find_spec("matplotlib") is None:
        raise UserError("a map is drawn with matplotlib, which is not installed; pip install matplotlib")


def draw(survey, title, lines, path, dpi=110):
    """Write ``survey`` (a ``Survey``) to ``path``, a PNG, under a ``title`` and the ``lines`` that say what was chosen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(16.5, 12.6), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        head, *rows = figure.subfigures(4, 1, height_ratios=(0.36, 1.25, 0.95, 1.45))
        heading(head, title, lines)
        top, middle, bottom = rows[0].subplots(1, 4), rows[1].subplots(1, 4), rows[2].subplots(1, 3, width_ratios=(1.5, 1, 1))
        sight = Sight(survey.outputs, plt.get_cmap("viridis"))
        sight.paths(top[0], top[1])
        sight.singular(top[2])
        expectation(top[3], survey, sight.lines)
        image = sight.by_interval(middle)
        sight.by_quantity(bottom[0])
        rows[1].colorbar(image, ax=list(middle), pad=0.01, label="error, share of the last output")
        sight.remainders(bottom[1])
        sight.amplification(bottom[2])
        drawn = BytesIO()
        figure.savefig(drawn, dpi=dpi)
        plt.close(figure)
    few = Image.open(drawn).convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with replacing(path) as partial:  # a third of the size, and the colour map keeps its ends
        few.save(partial, format="PNG", optimize=True)


def heading(figure, title, lines):
    title = os.fsencode(title).decode(errors="replace")  # names of files are any bytes
    figure.text(0.012, 0.93, title, size=15, weight="bold", va="top", parse_math=False)
    said, *options = lines
    figure.text(0.012, 0.50, textwrap.fill(said, 120), size=11, va="top", linespacing=1.5)
    if options:
        box = {"boxstyle": "round,pad=0.7", "facecolor": EMPTY, "edgecolor": "none"}
        look = {"size": 12, "family": "DejaVu Sans Mono", "va": "center", "ha": "right", "multialignment": "left"}
        figure.text(0.985, 0.5, "\n".join(options), bbox=box, linespacing=1.5, **look)


def expectation(panel, survey, colours):
    """dB to the full run by calls: foretold, and measured where that was done."""
    panel.set(title="Foretold of runs with few calls", xlabel="calls", ylabel="dB to the full run")
    if survey.choice is None:
        panel.text(0.5, 0.5, textwrap.fill(survey.why, 34), ha="center", va="center", color=FAINT, transform=panel.transAxes)
        panel.set(xticks=[], yticks=[])
        return
    kinds = {"`calls` alone": survey.default, "the best options": survey.best, "learn: true": survey.learnt}
    for colour, (label, found) in zip(colours[:3], kinds.items(), strict=True):
        calls, rows = list(found), found.values()
        panel.plot(calls, [row.middle for row in rows], "-", color=colour, linewidth=1.6, label=label)
        panel.fill_between(calls, [row.low for row in rows], [row.high for row in rows], color=colour, alpha=0.13, linewidth=0)
    panel.axhline(survey.target, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
    choice = survey.choice
    ring = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.8}
    panel.plot(choice.calls, choice.middle, "o", color=INK, label="chosen", **ring)
    if survey.measured:
        panel.plot(list(survey.measured), list(survey.measured.values()), "D", color=INK, markersize=5, label="measured")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_ylim(top=min(panel.get_ylim()[1], HIGHEST))
    panel.legend(loc="best")
    quiet(panel)
