"""What a calibration is, and the text file it lives in.

A file is plain YAML: what it was fitted for, then one block of rows for each budget of denoiser calls. Reading builds numbers,
strings and lists and checks each of them; nothing in a file is executed.
"""

import os
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path

import yaml

from .checks import Reader, Unreadable, parsed, read
from .files import first_line, replacing
from .hosts import SAMPLERS
from .values import brief

FORMATS = ONE_SCALE, RANGE, FREE = [f"taylorseer_guider calibration {number}" for number in (1, 2, 3)]
MOST_SCALES = 3  # that weights are told for: the polynomial through them is of degree 2
MOST_HELD = 100  # outputs that a row may weigh
NUMBERS = (bool, bool), (int, Integral), (float, Real)
LARGEST_WEIGHT = 1e6  # fitted ones are below 100, and float32 has room for an image times this


@dataclass(frozen=True)
class Row:
    """One visit: whether the denoiser is called there, and the weights of its answer.

    ``weights`` are those of x, then of the branches of each held output, newest output first; where the denoiser is called, its
    output is the newest. ``low`` are the weights of the same tensors after a 4x4 mean (empty: none are used). In a calibration
    for a range of scales each is told for all of its ``Fitted.scales``, one scale after another.
    """

    step: int
    sigma: float
    call: bool
    weights: tuple[float, ...]
    low: tuple[float, ...] = ()
    residual: float = 0.0  # root mean square of what the fitted samples miss the reference by, in units of x

    def mixed(self, shares):
        """The row of one scale, of which each of the scales that this one is told for has its part of ``shares`` (floats)."""
        if len(shares) == 1:
            return self
        return replace(self, weights=_mixed(self.weights, shares), low=_mixed(self.low, shares))


def _mixed(weights, shares):
    count = len(weights) // len(shares)
    told = [weights[n * count : (n + 1) * count] for n in range(len(shares))]
    return tuple(sum(share * weight for share, weight in zip(shares, each, strict=True)) for each in zip(*told, strict=True))


@dataclass(frozen=True)
class Budget:
    """The visits of one run that makes ``calls`` denoiser calls, in the order in which the sampler makes them."""

    nodes: tuple[int, ...]  # step indices of the nodes at which the denoiser is called
    db: float  # mean PSNR of the fitted samples to the reference
    rows: tuple[Row, ...]
    sigmas: tuple[float, ...] = ()  # of the visits, down to 0, where they are not those of the fitted schedule

    @property
    def calls(self) -> int:
        return sum(row.call for row in self.rows)

    def mixed(self, shares):
        """The budget of one scale, as ``Row.mixed`` makes its rows."""
        return replace(self, rows=tuple(row.mixed(shares) for row in self.rows))


@dataclass(frozen=True)
class Fitted:
    """What a run must share with the runs that the calibration was fitted on.

    ``scales`` is the guidance scale, or, of a calibration for a range, those that its weights are told for, the range's ends
    among them: rising, and one more than the degree of the polynomial in the scale that goes through their weights.
    """

    sampler: str
    guider: str  # class of the wrapped guider
    scales: tuple[float, ...]
    sigmas: tuple[float, ...]

    def holds(self, scale):
        """Whether weights are known at ``scale``."""
        return self.scales[0] <= scale <= self.scales[-1]

    @property
    def range(self):
        """The scales in words."""
        return " to ".join(dict.fromkeys(map(str, (self.scales[0], self.scales[-1]))))


@dataclass(frozen=True)
class Calibration:
    """Plans and weights solved from runs of one model. ``calibrate`` makes one; the guider's option ``calibration`` uses it."""

    fitted: Fitted
    branches: int  # 2 where the guided output is uncond + scale (cond - uncond) of one doubled batch, else 1
    history: int  # outputs that a row may weigh
    budgets: dict[int, Budget]  # by number of calls
    about: dict = field(default_factory=dict)  # samples, shapes, dtype, reference: for people, not checked against a run

    def budget(self, calls: int | None = None) -> Budget:
        """The budget of ``calls`` calls; None picks the only one.

        ValueError where that is not possible, with the list and the nearest to either side. Weights of two budgets cannot be
        mixed for one in between: they are of outputs at other nodes.
        """
        known = sorted(self.budgets)
        if calls is None and len(known) == 1:
            return self.budgets[known[0]]
        if calls not in self.budgets:
            remedy = "name one of them" if calls is None else _nearest(known, calls)
            raise ValueError(f"calls={calls!r}: this calibration holds budgets of {_listed(known)} calls; {remedy}")
        return self.budgets[calls]

    def nearest(self, calls: int) -> Budget:
        """The budget whose number of calls is nearest to ``calls``."""
        return min(self.budgets.values(), key=lambda budget: abs(budget.calls - calls))

    def save(self, path: str | os.PathLike) -> None:
        """Write the file, whole or not at all."""
        with replacing(Path(path)) as draft:
            draft.write_text(self.to_yaml(), encoding="utf-8")

    def to_yaml(self) -> str:
        """The text of the file: a row a line."""
        fitted, alone = _plain(asdict(self.fitted)), len(self.fitted.scales) == 1
        scale = {"scale": self.fitted.scales[0]} if alone else {"scales": fitted["scales"]}
        own = any(budget.sigmas for budget in self.budgets.values())
        version = FREE if own else ONE_SCALE if alone else RANGE
        head = {"format": version, "sampler": fitted["sampler"], "guider": fitted["guider"], **scale}
        head |= {"sigmas": fitted["sigmas"], "branches": self.branches, "history": self.history}
        head["calls"] = sorted(self.budgets)  # so that a file that was cut off between two budgets is not taken for a whole one
        lines = [yaml.safe_dump(_plain({**head, "about": self.about}), sort_keys=False, default_flow_style=None), "budgets:\n"]
        for calls, budget in sorted(self.budgets.items()):
            lines.append(f"  {calls}:\n    nodes: {list(budget.nodes)}\n    db: {budget.db}\n")
            lines.append(f"    sigmas: {list(budget.sigmas)}\n" if budget.sigmas else "")
            lines.append("    rows:\n")
            lines += [f"    - {_line(_plain(asdict(row)))}" for row in budget.rows]
        return "".join(lines)

    @classmethod
    def load(cls, path: str | os.PathLike, name: str = "calibration") -> "Calibration":
        """Read the file that the option ``name`` gives.

        ValueError, in one line, for one that is absent, truncated, malformed or of another format.
        """
        try:
            return cls.from_dict(parsed(read(path, name)))
        except Unreadable:
            raise
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise ValueError(f"{name}={str(path)!r}: not a whole calibration file ({first_line(error)})") from None

    @classmethod
    def from_dict(cls, data: object) -> "Calibration":
        """From what ``yaml.safe_load`` gives. Raises ValueError that names the entry."""
        top = Reader(data, "the file")
        if (version := top.get("format")) not in FORMATS:
            raise ValueError(f"format is {brief(version)}, this version reads {' and '.join(map(repr, FORMATS))}")
        if version == FREE and "scale" in data and "scales" in data:
            raise ValueError("it has both `scale` and `scales`")
        alone = version == ONE_SCALE or (version == FREE and "scale" in data)
        scales = (top.number("scale"),) if alone else top.rising("scales", MOST_SCALES)
        fitted = Fitted(top.text("sampler"), top.text("guider"), scales, top.schedule("sigmas"))
        branches, history = top.whole("branches", 1, 2), top.whole("history", 1, MOST_HELD)
        shape = fitted, branches, history
        budgets = {calls: _budget(top.inside("budgets", calls), calls, *shape) for calls in top.keys("budgets")}
        if "calls" in data and list(top.wholes("calls", 1, len(fitted.sigmas))) != sorted(budgets):
            raise ValueError(f"it says calls: {brief(data['calls'])} and holds budgets of {brief(sorted(budgets))}")
        about = top.get("about") or {}
        return cls(fitted, branches, history, budgets, dict(Reader(about, "about").data))


def _nearest(known, calls):
    """The nearest of ``known`` (rising) to either side of ``calls``, in words."""
    near = [*[one for one in known if one < calls][-1:], *[one for one in known if one > calls][:1]]
    return f"the nearest {'is' if len(near) == 1 else 'are'} {_listed(near)}"


def _listed(numbers):
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


def _budget(reader, calls, fitted, branches, history):
    own = reader.schedule("sigmas") if "sigmas" in reader.data else ()
    if own and own[-1] > 0:
        raise ValueError(f"sigmas of budget {calls} end at {own[-1]}, not at 0")
    last, fitted = len(fitted.sigmas) - 2, replace(fitted, sigmas=own or fitted.sigmas)
    sigmas, rows = fitted.sigmas, tuple(_row(row, len(fitted.sigmas) - 2) for row in reader.rows("rows"))
    called = set()
    for n, row in enumerate(rows):
        if row.call and row.sigma in called:
            raise ValueError(f"row {n} of budget {calls} calls at sigma {row.sigma}, as one before it does")
        if row.call:
            called.add(row.sigma)
        expected = (1 + branches * min(len(called), history)) * len(fitted.scales)
        if not called or len(row.weights) != expected or len(row.low) not in (0, expected):
            raise ValueError(f"row {n} of budget {calls} has {len(row.weights)} weights, {expected} belong there")
        if bool(row.low) != bool(rows[0].low):
            raise ValueError(f"row {n} of budget {calls} differs from row 0 in having entries `low`")
        if row.sigma not in sigmas[row.step : row.step + 2]:
            raise ValueError(f"row {n} of budget {calls} is at sigma {row.sigma}, which is not at step {row.step}")
    if not isinstance(calls, int) or len(called) != calls:
        raise ValueError(f"budget {brief(calls)} holds {len(called)} calls")
    if (visits := _visits(fitted)) not in (None, [(row.step, row.sigma) for row in rows]):
        raise ValueError(f"budget {calls} has {len(rows)} rows, which are not the {len(visits)} visits of {fitted.sampler}")
    nodes = reader.wholes("nodes", 0, last)
    if len(nodes) != calls or list(nodes) != sorted(set(nodes)):
        raise ValueError(f"nodes of budget {calls} are {brief(list(nodes))}, not {calls} rising ones")
    return Budget(nodes, reader.number("db"), rows, own)


def _visits(fitted):
    """(step, sigma) of each visit of a run; None for a sampler that is not known."""
    known = SAMPLERS.get(fitted.sampler)
    if known is None or not known.visits:
        return None
    steps = enumerate(pairwise(fitted.sigmas))
    return [(step, sigma) for step, pair in steps for sigma in pair[: known.visits] if sigma > 0]


def _row(reader, last):
    reader.only("step", "sigma", "call", "weights", "low", "residual")
    return Row(
        reader.whole("step", 0, last), reader.number("sigma"), reader.flag("call"),
        reader.numbers("weights", LARGEST_WEIGHT), reader.numbers("low", LARGEST_WEIGHT), reader.number("residual"),
    )  # fmt: skip


def _plain(value):
    """``value`` with tuples as lists and numbers as Python's, which is what YAML knows."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    kind = next((kind for kind, number in NUMBERS if isinstance(value, number)), None)
    return value if kind is None else kind(value)


def _line(row):
    return yaml.safe_dump(row, sort_keys=False, default_flow_style=True, width=float("inf"))
