"""What was learnt of one kind of run, as plain data."""

import math
from dataclasses import dataclass, field

from .calibration_file import Calibration
from .checks import Reader

# nodes for each call: a full run of fewer is no nearer than `calls` alone, and leaves too little choice for longer ones
ROOM = 2.0
MOST = 10**12  # samples or calls that a file may speak of
CLEAR = 2.0  # dB by which `calls` alone must be beaten on the pictures that were learnt from: others may lose by less


@dataclass(frozen=True)
class Learnt:
    """What was learnt of one kind of run. ``calibration`` is None where nothing was; later runs use it if it is ``better``."""

    calls: int  # of the later runs
    calibration: Calibration | None = field(default=None, repr=False)
    samples: int = 0  # that it was learnt from
    cost: int = 0  # denoiser calls that learning took, beside the full run
    db: float | None = None  # PSNR of those samples, with what was learnt
    alone_db: float | None = None  # and with ``calls`` alone
    parts_db: float | None = None  # dB gained in the mean over the parts of each of those samples
    doubt: str | None = None  # why it is not used, however much it seems to gain
    reason: str | None = None  # why nothing was learnt

    @classmethod
    def of(cls, calibration, calls):
        """What a ``calibration`` that was learnt says of itself. ValueError for one that was not."""
        budget = calibration.budget(calls)
        try:
            about = Reader(calibration.about, "about")
            samples, cost, alone = about.whole("samples", 1, MOST), about.whole("cost", 0, MOST), about.number("alone_db")
            parts = about.number("parts_db") if "parts_db" in about.data else math.inf  # files of 0.3 have none, and no doubt
            doubt = about.data.get("doubt")
        except ValueError:
            raise ValueError("it was not learnt; give it as `calibration`") from None
        return cls(calls, calibration, samples, cost, budget.db, alone, parts, doubt)

    @property
    def better(self):
        """Whether it clearly beats ``calls`` alone on what it was learnt from, all over the picture, as far as can be told."""
        known = self.calibration is not None and self.tells and not self.doubt
        return known and min(self.db - self.alone_db, self.parts_db) >= CLEAR

    @property
    def taught_on(self):
        """How many nodes the run had that was learnt from."""
        return len(self.calibration.fitted.sigmas) - 1

    @property
    def tells(self):
        """Whether these were enough for that run to be nearer than ``calls`` alone."""
        return self.taught_on >= ROOM * self.calls

    @property
    def nodes(self):
        """At which later runs call by what was learnt; () where they do not go by it."""
        return self.calibration.budget(self.calls).nodes if self.better else ()

    def to_dict(self):
        """Plain numbers, strings and lists, ready for JSON."""
        names = ("calls", "samples", "cost", "db", "alone_db", "doubt", "reason")
        parts = self.parts_db if self.parts_db is not None and math.isfinite(self.parts_db) else None
        return {**{name: getattr(self, name) for name in names}, "parts_db": parts, "nodes": list(self.nodes)}

    def __str__(self):
        if self.reason is not None:
            return f"nothing learnt: {self.reason}; runs go by `calls: {self.calls}` alone"
        source = f"learnt from a full run of {self.samples} sample(s), for {self.cost} calls more"
        if not self.tells:
            return f"{source}: `calls: {self.calls}` alone, since {self.taught_on} nodes are too few to tell"
        if self.doubt:
            return f"{source}: `calls: {self.calls}` alone, {self.alone_db:.1f} dB there; {self.doubt}"
        if not self.better:
            where = " all over the picture" if self.db - self.alone_db >= CLEAR else ""
            return f"{source}: `calls: {self.calls}` alone, {self.alone_db:.1f} dB there, is not clearly beaten{where}"
        nodes = ", ".join(map(str, self.nodes))
        return (
            f"{source}: {self.calls} calls at its nodes {nodes}; {self.db:.1f} dB there, {self.alone_db:.1f} with `calls` alone"
        )
