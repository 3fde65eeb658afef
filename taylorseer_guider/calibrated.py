"""The policy with a calibration: what is called, and what answers weigh, comes from its file."""

import logging
import math
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from typing import ClassVar

import torch

from .calibration_file import Budget, Calibration, Fitted
from .forecast import Weights, newton_weights
from .hosts import SAMPLERS
from .policy import Keep
from .report import CALL, FORECAST
from .reschedule import on_schedule
from .schedule import ROUNDED
from .settings import History
from .steps import Step
from .translate import as_euler, as_heun

logger = logging.getLogger(__name__)
_as_euler, _as_heun, _on_schedule = map(lru_cache(maxsize=64), (as_euler, as_heun, on_schedule))  # every picture asks alike
FINER = 0.9  # of the last sigma that was fitted: a schedule that goes on below is another one, whose picture differs


@dataclass(frozen=True)
class Calibrated:
    """Answers the visits of one run as the rows of ``budget``, which is of the run's scale, say.

    ``history`` says where and how outputs are held.
    """

    calibration: Calibration = field(repr=False)
    budget: Budget = field(repr=False)
    history: History = field(default_factory=History)
    reason: str = "calibrated"
    step: Step | None = None  # of a multistep host, for which the rows are Euler's
    asked: dict = field(default_factory=dict, repr=False)  # as in ``reschedule.Moved``
    first: ClassVar[int] = 0

    def beginning(self, node):
        return self  # and its first visit is refused

    @cached_property
    def _nodes(self):
        return {sigma: node for node, sigma in enumerate(self.calibration.fitted.sigmas)}

    @cached_property
    def keep(self):
        calibration = self.calibration
        return Keep(
            count=calibration.history, branches=calibration.branches, means=bool(self.budget.rows[0].low), fitted=True,
            dtype=self.history.dtype, device=self.history.device, step=self.step,
        )  # fmt: skip

    def decide(self, visit, history):
        """As the next row says. ValueError where the visit is not the one that the calibration has next."""
        rows = self.budget.rows
        row = rows[visit.number] if visit.number < len(rows) else None
        if row is None or visit.node != self._nodes[row.sigma] or not math.isclose(visit.sigma, row.sigma, rel_tol=ROUNDED):
            expected = "none" if row is None else f"sigma {row.sigma:.6g}"
            raise ValueError(
                f"the calibration does not fit this run: visit {visit.number} is at sigma {visit.sigma or math.nan:.6g} here, "
                f"it was fitted for {expected}"
            )
        return (CALL if row.call else FORECAST), self.reason

    def inputs(self, visit, history):
        if visit.node not in self.asked:
            return None
        sigma, row = self.asked[visit.node]
        return sigma, _weights(row, 0)

    def weights(self, visit, history):
        return _weights(self.budget.rows[visit.number], len(history) - 1)


def _weights(row, order):
    return Weights(row.weights[0], row.weights[1:], row.low, order, sum(map(abs, row.weights[1:])))


def policy_for(calibration, settings, fitted, stepping, dtype):
    """The policy for a run that is ``fitted`` (a Fitted) and whose sigmas have ``dtype``. ValueError where the two do not fit.

    ``stepping`` is what is known of its sampler. Rows of another sampler are translated, those of another schedule moved to it.
    """
    known, branches = calibration.fitted, calibration.branches
    ours, theirs = getattr(SAMPLERS.get(known.sampler), "method", None), stepping.method or "euler"
    require_same_kind(known if ours is None else replace(known, sampler=fitted.sampler), fitted)
    budget = calibration.budget(settings.calls).mixed(newton_weights(known.scales, fitted.scales[0]))
    sigmas = budget.sigmas or known.sigmas
    moved = not same_schedule(sigmas, fitted.sigmas, dtype)
    if moved:
        require_within(known, fitted, budget)
    history, asked = calibration.history, {}
    if ours == "heun" and (moved or theirs == "euler"):
        history += 1
        budget, ours = _as_euler(budget, sigmas, branches, history), "euler"
    if moved:
        history, own, sigmas = history + 1, sigmas, fitted.sigmas
        found = _on_schedule(budget, own, sigmas, branches, history, fitted.scales[0])
        budget, asked = found.budget, found.asked
    if (ours, theirs) == ("euler", "heun"):
        budget = _as_heun(budget, sigmas, branches)
    calibration = replace(calibration, fitted=replace(known, sigmas=sigmas), history=history)
    return Calibrated(calibration, budget, settings.history, step=stepping.step, asked=asked)


def goes_on(fitted, run):
    """Whether the schedule of ``run`` goes on well below the last sigma of the one that was ``fitted``, whose picture is made."""
    return run.sigmas[-2] < FINER * fitted.sigmas[-2]


def warn_if_it_goes_on(fitted, run):
    """Have the log say so, once."""
    if goes_on(fitted, run):
        _say_it_goes_on(fitted.sigmas[-2], run.sigmas[-2])


@cache
def _say_it_goes_on(fitted, run):
    logger.warning(
        "the calibration was fitted on a schedule whose last sigma is %.3g, and makes the picture of that one; this one goes on "
        "to %.3g: calibrate with as many steps", fitted, run,
    )  # fmt: skip


def require_same(fitted, run, dtype):
    """Raise ValueError, with the two values side by side, where a run is not one that the calibration was fitted for.

    ``dtype`` is that of the run's sigmas: a schedule that a host rounds to bfloat16 is still the same schedule.
    """
    require_same_kind(fitted, run)
    if not same_schedule(fitted.sigmas, run.sigmas, dtype):
        raise ValueError(_other_schedule(fitted, run))


def require_same_kind(fitted, run):
    """The same of all but the schedule."""
    if not fitted.holds(run.scales[0]):  # first, since at scales 0 and 1 there is another guider, too
        raise ValueError(
            f"the calibration does not fit this run: scale is {run.range} here, it was fitted for {fitted.range}; give a scale "
            "that it was fitted for, or calibrate with `scales` on both sides of this one"
        )
    for name in ("sampler", "guider"):
        ours, theirs = getattr(fitted, name), getattr(run, name)
        if ours != theirs:
            raise ValueError(f"the calibration does not fit this run: {name} is {theirs} here, it was fitted for {ours}")


def same_schedule(ours, theirs, dtype):
    """Whether sigmas are one another's, but for the rounding of ``dtype``."""
    eps = 4 * torch.finfo(dtype).eps
    return len(ours) == len(theirs) and all(math.isclose(a, b, rel_tol=eps) for a, b in zip(ours, theirs, strict=True))


def require_within(fitted, run, budget):
    """Raise ValueError where the rows of ``budget`` cannot be moved to the schedule of ``run``."""
    (*nodes, end), (largest, *_) = run.sigmas, fitted.sigmas
    _, second, *_ = *(row.sigma for row in budget.rows if row.call), 0.0
    falls = all(a > b for a, b in pairwise(run.sigmas)) and end == 0
    if not (falls and budget.calls <= len(nodes) and second < nodes[0] <= largest * (1 + ROUNDED)):
        raise ValueError(
            f"{_other_schedule(fitted, run)}; {budget.calls} calls serve every schedule of that many nodes or more that falls to "
            f"0 from {largest:.4g} or less, but from more than {second:.4g}"
        )


def _other_schedule(fitted, run):
    return (
        f"the calibration does not fit this run: its schedule is {_brief(run.sigmas)}, it was fitted for {_brief(fitted.sigmas)}"
    )


def _brief(sigmas):
    shown = [f"{sigma:.4g}" for sigma in sigmas]
    shown = shown if len(shown) <= 6 else [*shown[:3], "...", *shown[-2:]]
    return f"{len(sigmas)} sigmas ({', '.join(shown)})"


def describe(sampler, stepping, guider, sigmas):
    """What a calibration is fitted for, of a run: a Fitted. ValueError, with the reason, for a sampler that cannot be calibrated.

    ``stepping`` is what ``hosts.stepping`` knows of the sampler, ``sigmas`` its schedule as floats.
    """
    name = type(sampler).__name__
    if churn := getattr(sampler, "s_churn", 0):
        raise ValueError(f"{name} with s_churn={churn} adds noise while sampling; only a deterministic run can be fitted")
    if stepping.method is None and stepping.step is None:
        raise ValueError(
            f"{name} cannot be calibrated: it is not known how it steps; use EulerEDMSampler, HeunEDMSampler, "
            "ConcatSRHeunEDMSampler, DPMPP2MSampler, LinearMultistepSampler, or a subclass that does not step by itself"
        )
    if torch.is_tensor(guider.scale) and guider.scale.numel() != 1:
        raise ValueError(
            f"scale is a tensor of {guider.scale.numel()} numbers: weights are for one scale; leave `calibration` out"
        )
    return Fitted(stepping.name, guider.wrapped.__name__, (float(guider.scale),), tuple(sigmas))
