"""forecast.png: what a forecast does. error.png: how far it is off. Small PNGs on white, of few colours."""

from io import BytesIO

from PIL import Image

from taylorseer_guider.files import replacing
from taylorseer_guider.forecast import COORDINATES

from .slopes import LARGE, SMALL

COLOURS = 64
LINES = ("tab:blue", "tab:orange", "tab:green", "tab:red")
TICKS = (40, 20, 10, 4, 2, 1, 0.4, 0.1, 0.03, 0.01, 0.002)


def figure(width, height, columns=1):
    """A figure of ``width`` x ``height`` inches and its axes, without a window."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)


def save(drawn, path, dpi=200):
    """Write a figure with few colours, which is a quarter of the size and looks the same."""
    import matplotlib.pyplot as plt

    buffer = BytesIO()
    drawn.savefig(buffer, dpi=dpi, facecolor="white")
    plt.close(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(partial, format="PNG", optimize=True)


def forecast_picture(nodes, values, path):
    """``nodes`` are a run's ``Seen``; ``values`` [(got, truth)]: two lists of floats along them for each pixel to draw."""
    drawn, axes = figure(8, 3.9)
    panel, u = axes[0, 0], [-COORDINATES["rho"](node.sigma) for node in nodes]
    called = [i for i, node in enumerate(nodes) if node.called]
    skipped = [i for i, node in enumerate(nodes) if not node.called]
    for colour, (got, truth) in zip(LINES, values, strict=False):
        for first, last in zip(called, [*called[1:], len(nodes)], strict=True):
            panel.plot(u[first:last], got[first:last], color=colour, linewidth=2)
        look = {"linestyle": "", "marker": "o", "markersize": 7, "color": colour, "zorder": 3}
        panel.plot([u[i] for i in called], [got[i] for i in called], **look)
        panel.plot([u[i] for i in skipped], [truth[i] for i in skipped], **look, markerfacecolor="white", markeredgewidth=1.4)
    grey = {"color": "dimgrey", "markersize": 7}
    panel.plot([], [], "o", **grey, label="the network is called")
    panel.plot([], [], "-", **grey, linewidth=2, label="forecast: what the sampler goes on with")
    panel.plot([], [], "o", **grey, markerfacecolor="white", markeredgewidth=1.4, label="what the network would have said")
    panel.set_xticks([-COORDINATES["rho"](sigma) for sigma in TICKS], [f"{sigma:g}" for sigma in TICKS])
    panel.set(xlabel="noise level sigma, falling as the image takes shape", ylabel="pixel value of the output")
    panel.legend(loc="best", fontsize=9)
    panel.grid(alpha=0.25)
    save(drawn, path)


def error_picture(measured, path):
    """``measured`` {name: [Errors]}: a panel each. Dots are measured; broken, in the first, what the remainder term foretells."""
    drawn, axes = figure(9.6, 4.4, len(measured))
    for panel, (name, rows) in zip(axes[0], measured.items(), strict=True):
        ruled = panel is axes[0, 0]
        for colour, row in zip(LINES, rows, strict=True):
            label = f"order {row.order}: {row.slope(*SMALL if ruled else LARGE):.2f}" + (f" ({row.order + 1})" if ruled else "")
            panel.loglog(row.gaps, row.errors, "o-", color=colour, markersize=4, linewidth=1.4, label=label)
            if ruled:
                panel.loglog(row.gaps, [row.remainder(gap) for gap in row.gaps], "--", color=colour, linewidth=1, alpha=0.7)
        title = f"slope up to 1/{round(1 / SMALL[1])} (remainder)" if ruled else f"slope from {LARGE[0]} to {LARGE[1]}"
        lowest = min(row.errors[0] for row in rows)
        panel.set(xlabel="interval, in steps of a 20-step schedule", ylim=(lowest / 3, 4), title=name)
        panel.set_xticks(rows[0].gaps, [f"1/{round(1 / gap)}" if gap < 1 else f"{gap:g}" for gap in rows[0].gaps])
        panel.set_xticks([], minor=True)
        panel.legend(loc="lower right", title=title, fontsize=9, title_fontsize=9)
        panel.grid(alpha=0.25)
    axes[0, 0].set_ylabel("relative error of the forecast")
    save(drawn, path)
