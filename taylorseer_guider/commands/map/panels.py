"""The panels of the map that show a run's outputs, in the colours of one map."""

import numpy as np

from ...forecast import COORDINATES, QUANTITIES
from .errors import INTERVALS, ORDERS, principal
from .survey import COORDINATE

INK, FAINT, EMPTY = "#22303c", "#8a97a3", "#f1f3f5"
AXIS = r"$\sigma$ of the node"
LEAST = 1e-6  # of what is drawn
DRAWN = 3  # orders of which lines are drawn; the table has them all
APART = 0.16  # of a panel: labels of a path that are nearer are left out


class Sight:
    """Draws the ``outputs`` of a run (an ``errors.Outputs``) in ``colours``, a colour map of matplotlib's."""

    def __init__(self, outputs, colours):
        from matplotlib.colors import LogNorm

        self.outputs, self.colours = outputs, colours.with_extremes(bad=EMPTY)
        self.errors = outputs.errors("denoised", COORDINATE).numpy()
        self.norm = LogNorm(*limits(self.errors))
        self.lines = [colours(place) for place in np.linspace(0.05, 0.82, len(ORDERS))]
        self.sigmas = np.array(outputs.sigmas)

    def paths(self, outputs, differences):
        """Where outputs, and their slopes, go in the plane in which they move most."""
        slopes = self.outputs.slopes(COORDINATE)
        self.path(outputs, self.outputs.denoised, self.sigmas, "Path of the outputs")
        self.path(differences, slopes, self.sigmas[:-1], f"Path of their first differences, along {COORDINATE}")

    def path(self, panel, vectors, sigmas, title):
        points, singular = principal(vectors)
        shares = (singular.square() / singular.square().sum())[:2].tolist()
        x, y = points.T.numpy() / max(float(points.abs().max()), 1e-300)
        panel.plot(x, y, color=FAINT, linewidth=1, zorder=1)
        panel.scatter(x, y, c=-np.log(sigmas), cmap=self.colours, s=46, edgecolor="white", linewidth=0.8, zorder=2)
        for n in apart(points / (points.amax(0) - points.amin(0)).clamp(min=1e-300)):
            panel.annotate(rf"$\sigma$ {sigmas[n]:.2g}", (x[n], y[n]), (7, 5), textcoords="offset points", fontsize=8)
        panel.set(title=title, xlabel=f"first component, {shares[0]:.0%}", ylabel=f"second, {sum(shares[1:]):.0%}")
        panel.margins(0.16)
        panel.set(xticks=[], yticks=[])

    def singular(self, panel):
        rows = {"outputs": self.outputs.denoised, "first differences": self.outputs.slopes(COORDINATE)}
        for colour, (label, vectors) in zip(self.lines[::2], rows.items(), strict=False):
            values = principal(vectors)[1].numpy()
            values = values[: max(len(values) - 1, 1)] / max(values[0], 1e-300)  # the last is that of the mean
            look = {"color": colour, "markersize": 4.5, "linewidth": 1.4, "label": label}
            panel.semilogy(range(1, len(values) + 1), seen(values), "o-", **look)
        panel.set(title="Singular values, the first = 1", xlabel="component")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.legend(loc="upper right")
        quiet(panel)

    def by_interval(self, panels):
        """Heat maps of node and interval, one for each order."""
        for panel, order in zip(panels, ORDERS, strict=True):
            image = self.heat(panel, self.errors[order], INTERVALS)
            panel.set_title(f"Error of a forecast, order {order}")
            panel.set_xlabel(AXIS)
        panels[0].set_ylabel("interval")
        return image

    def by_quantity(self, panel, order=1, interval=2):
        """A heat map of node, and quantity and coordinate."""
        names = [(quantity, coordinate) for quantity in QUANTITIES for coordinate in COORDINATES]
        errors = [self.outputs.errors(*name)[order, INTERVALS.index(interval)].numpy() for name in names]
        labels = [f"{q}  {c}" if i % len(COORDINATES) == 0 else c for i, (q, c) in enumerate(names)]
        self.heat(panel, np.stack(errors), labels)
        for edge in range(len(COORDINATES), len(names), len(COORDINATES)):
            panel.axhline(edge - 0.5, color="white", linewidth=4)
        panel.set_title(f"Error by quantity and coordinate, order {order}, interval {interval}")
        panel.set_xlabel(AXIS)

    def heat(self, panel, values, labels):
        values = np.clip(values, self.norm.vmin, self.norm.vmax)
        image = panel.imshow(values, cmap=self.colours, norm=self.norm, aspect="auto", interpolation="nearest")
        panel.set_yticks(range(len(labels)), labels)
        panel.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
        panel.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        panel.grid(which="minor", color="white", linewidth=1.2)
        panel.tick_params(which="both", length=0)
        panel.spines[:].set_visible(False)
        self.sigma_ticks(panel)
        return image

    def remainders(self, panel, interval=2):
        """What the next difference foretells of an error, and the error."""
        place = INTERVALS.index(interval)
        foretold = self.outputs.remainders("denoised", COORDINATE).numpy()
        for order, colour in zip(ORDERS[:DRAWN], self.lines, strict=False):
            panel.semilogy(seen(self.errors[order, place]), "o", color=colour, markersize=5, label=f"order {order}")
            panel.semilogy(seen(foretold[order, place]), "-", color=colour, linewidth=1.5)
        panel.set(title=f"Error (dots) and remainder foretold (lines), interval {interval}", xlabel=AXIS)
        panel.legend(loc="lower left", handletextpad=0.3)
        self.sigma_ticks(panel)
        quiet(panel)

    def amplification(self, panel, interval=2):
        sums = self.outputs.weights(COORDINATE)[:, INTERVALS.index(interval)].abs().nansum(-1).numpy()
        for order, colour in zip(ORDERS, self.lines, strict=True):
            known = np.where(sums[order] > 0, sums[order], np.nan)
            panel.plot(known, "o-", color=colour, markersize=4, linewidth=1.4, label=f"order {order}")
        panel.set(title=f"Sum of |weights|, interval {interval}", xlabel=AXIS, yscale="log")
        ticks = [tick for tick in (1, 2, 3, 5, 7, 10, 15, 30, 100) if tick <= 1.3 * np.nanmax(sums)]
        panel.set_yticks(ticks, [str(tick) for tick in ticks])
        panel.set_yticks([], minor=True)
        panel.legend(loc="best", ncols=2)
        self.sigma_ticks(panel)
        quiet(panel)

    def sigma_ticks(self, panel):
        nodes = np.unique(np.linspace(0, len(self.sigmas) - 1, min(len(self.sigmas), 6)).round().astype(int))
        panel.set_xticks(nodes, [f"{self.sigmas[n]:.2g}" for n in nodes])
        panel.set_xlim(-0.5, len(self.sigmas) - 0.5)


def seen(values):
    """``values``, without those that are rounding."""
    return np.where(values > LEAST, values, np.nan)


def quiet(panel):
    """A faint grid, and no ticks."""
    panel.grid(alpha=0.25, linewidth=0.7)
    panel.tick_params(length=0)


def limits(errors):
    """The errors between which colours are told apart: whole powers of ten about nearly all of them."""
    known = np.log10(np.clip(errors[~np.isnan(errors)], 1e-6, 1e3))
    least, most = np.floor(np.percentile(known, 5)), np.ceil(np.percentile(known, 99))
    return 10.0**least, 10.0 ** max(most, least + 1)


def apart(points):
    """Which of ``points`` (N, 2), in shares of a panel, have room for a label: the ends first, then every other."""
    count, chosen = len(points), []
    for n in (0, count - 1, *range(2, count - 2, 2)):
        if all(float((points[n] - points[other]).norm()) > APART for other in chosen):
            chosen.append(n)
    return chosen
