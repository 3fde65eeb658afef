"""The policy with a calibration: plan and weights come from its file."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from .calibration_file import Budget, Calibration, Fitted
from .forecast import Weights, newton_weights
from .hosts import SAMPLERS
from .policy import Keep
from .report import CALL, FORECAST
from .settings import History
from .translate import as_euler, as_heun
from .trust import ROUNDED


@dataclass(frozen=True)
class Calibrated:
    """Answers the visits of one run as the rows of ``budget``, which is of the run's scale, say.

    ``history`` says where and how outputs are held.
    """

    calibration: Calibration = field(repr=False)
    budget: Budget = field(repr=False)
    history: History = field(default_factory=History)
    reason: str = "calibrated"
    step: object = None  # of a multistep host, for which the rows are Euler's

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
        if row is None or visit.node != self._nodes[row.sigma] or not near(visit.sigma, row.sigma, ROUNDED):
            expected = "none" if row is None else f"sigma {row.sigma:.6g}"
            raise ValueError(
                f"the calibration does not fit this run: visit {visit.number} is at sigma {visit.sigma or math.nan:.6g} here, "
                f"it was fitted for {expected}"
            )
        return (CALL if row.call else FORECAST), self.reason

    def weights(self, visit, history):
        row = self.budget.rows[visit.number]
        return Weights(row.weights[0], row.weights[1:], row.low, len(history) - 1, sum(map(abs, row.weights[1:])))


def policy_for(calibration, settings, fitted, stepping, dtype):
    """The policy for a run that is ``fitted`` (a Fitted) and whose sigmas have ``dtype``. ValueError where the two do not fit.

    ``stepping`` is what is known of its sampler. Rows of another sampler are translated.
    """
    ours, theirs = getattr(SAMPLERS.get(calibration.fitted.sampler), "method", None), stepping.method or "euler"
    known = calibration.fitted if ours is None else replace(calibration.fitted, sampler=fitted.sampler)
    require_same(known, fitted, dtype)
    budget = calibration.budget(settings.calls).mixed(newton_weights(known.scales, fitted.scales[0]))
    if (ours, theirs) == ("heun", "euler"):
        calibration = replace(calibration, history=calibration.history + 1)
        budget = as_euler(budget, known.sigmas, calibration.branches, calibration.history)
    elif (ours, theirs) == ("euler", "heun"):
        budget = as_heun(budget, known.sigmas, calibration.branches)
    return Calibrated(calibration, budget, settings.history, step=stepping.step)


def require_same(fitted, run, dtype):
    """Raise ValueError, with the two values side by side, where a run is not one that the calibration was fitted for.

    ``dtype`` is that of the run's sigmas: a schedule that a host rounds to bfloat16 is still the same schedule.
    """
    for name in ("sampler", "guider"):
        ours, theirs = getattr(fitted, name), getattr(run, name)
        if ours != theirs:
            raise ValueError(f"the calibration does not fit this run: {name} is {theirs} here, it was fitted for {ours}")
    if not fitted.holds(run.scales[0]):
        raise ValueError(
            f"the calibration does not fit this run: scale is {run.range} here, it was fitted for {fitted.range}; give a scale "
            "that it was fitted for, or calibrate with `scales` on both sides of this one"
        )
    eps = 4 * torch.finfo(dtype).eps
    same = len(run.sigmas) == len(fitted.sigmas)
    if not same or not all(near(a, b, eps) for a, b in zip(run.sigmas, fitted.sigmas, strict=True)):
        raise ValueError(
            f"the calibration does not fit this run: its schedule is {_brief(run.sigmas)}, "
            f"it was fitted for {_brief(fitted.sigmas)}"
        )


def near(a, b, eps):
    return abs(a - b) <= eps * max(a, b)


def _brief(sigmas):
    shown = [f"{sigma:.4g}" for sigma in sigmas]
    shown = shown if len(shown) <= 6 else [*shown[:3], "...", *shown[-2:]]
    return f"{len(sigmas)} sigmas ({', '.join(shown)})"


def describe(sampler, stepping, guider, sigmas, served=False):
    """What a calibration is fitted for, of a run: a Fitted. ValueError, with the reason, for a sampler that cannot be calibrated.

    ``stepping`` is what ``hosts.stepping`` knows of the sampler, ``sigmas`` its schedule as floats. What is only to be ``served``
    by a calibration of another sampler may step in more ways.
    """
    name = type(sampler).__name__
    if churn := getattr(sampler, "s_churn", 0):
        raise ValueError(f"{name} with s_churn={churn} adds noise while sampling; only a deterministic run can be fitted")
    if stepping.method is None and not (served and stepping.step):
        raise ValueError(
            f"{name} cannot be calibrated: it is not known to step as Euler's or Heun's method does; use EulerEDMSampler, "
            "HeunEDMSampler, ConcatSRHeunEDMSampler, or a subclass that does not step by itself"
        )
    return Fitted(stepping.name, guider.wrapped.__name__, (float(guider.scale),), tuple(sigmas))
