"""All that is found out from one full run, and what it comes to: a choice."""

from dataclasses import dataclass, field, replace

from ...learnt import ROOM
from .choose import CALLS, Foresight, Foretold, best_of, candidates, chosen
from .errors import Outputs

COORDINATE = "asinh"  # the plugin's own for outputs


@dataclass(frozen=True)
class Survey:
    """``rows`` (``Foretold``) are of runs with ``calls`` and options, ``learnt`` {calls: of ``learn``}, ``best`` {calls: of all}.

    ``choice`` comes within ``target`` dB of the full run, where ``reached``. Where nothing can be foretold, ``why`` says so.
    ``measured`` {calls: dB} are real runs with the options of ``best``.
    """

    outputs: Outputs
    target: float
    rows: list[Foretold] = field(default_factory=list)
    learnt: dict = field(default_factory=dict)
    best: dict = field(default_factory=dict)
    choice: Foretold | None = None
    reached: bool = False
    full_db: float | None = None  # of the full run to what it solves, nearly
    why: str | None = None
    measured: dict = field(default_factory=dict)

    @property
    def default(self):
        """{calls: the Foretold of ``calls`` alone}."""
        return {row.calls: row for row in self.rows if not row.params}


def survey(course, peak, target, shown=iter):
    """The Survey of a ``record.Course``, whose samples have the range ``peak``. ``shown`` may show progress over calls."""
    reduced = course.reduced()
    outputs = Outputs.of(reduced)
    try:
        whole, upper, lower = (Foresight(one, peak) for one in (reduced, *course.halves()))
    except ValueError as error:
        return Survey(outputs, target, why=str(error))
    rows, learnt, options = [], {}, candidates(outputs)
    for calls in shown([n for n in CALLS if n <= len(outputs.sigmas)] or [len(outputs.sigmas)]):
        alone, *others = [whole.of(calls, **params) for params in options]
        rows += [alone, *others]
        used = len(outputs.sigmas) >= ROOM * calls  # else what is learnt is not
        learnt[calls] = upper.learnt(calls, lower) if used else replace(alone, params={"learn": True})
    best = best_of(rows, learnt)
    return Survey(outputs, target, rows, learnt, best, *chosen(best, target), whole.full_run())
