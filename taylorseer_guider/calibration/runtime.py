"""One sampling run with a calibration: the plan and the weights come from the file, everything else as in ``Trajectory``."""

from collections import deque
from dataclasses import dataclass

import torch

from ..report import CALL, FORECAST, Report, Visit
from ..trajectory import require_finite
from .answer import answer, pooled
from .file import Fitted
from .stepping import method_of


@dataclass(frozen=True)
class Held:
    """The branches of one output, (B, ...) each, and their 4x4 means where the calibration weighs those."""

    branches: list
    lows: list


def describe(sampler, guider, sigmas):
    """What a calibration is fitted for, of a run: a Fitted. ValueError for a sampler that cannot be calibrated."""
    method_of(sampler)
    values = tuple(sigmas.detach().double().flatten().tolist())
    return Fitted(type(sampler).__name__, type(guider.inner).__name__, float(guider.scale), values)


def require_same(fitted, run, dtype):
    """Raise ValueError, with the two values side by side, where a run is not one that the calibration was fitted for.

    ``dtype`` is that of the run's sigmas: a schedule that a host rounds to bfloat16 is still the same schedule.
    """
    for name in ("sampler", "guider", "scale"):
        ours, theirs = getattr(fitted, name), getattr(run, name)
        if ours != theirs:
            raise ValueError(f"the calibration does not fit this run: {name} is {theirs} here, it was fitted for {ours}")
    eps = 4 * torch.finfo(dtype).eps
    near = len(run.sigmas) == len(fitted.sigmas)
    near = near and all(abs(a - b) <= eps * max(a, b) for a, b in zip(run.sigmas, fitted.sigmas, strict=True))
    if not near:
        raise ValueError(
            f"the calibration does not fit this run: its schedule is {_brief(run.sigmas)}, "
            f"it was fitted for {_brief(fitted.sigmas)}"
        )


def _brief(sigmas):
    shown = [f"{sigma:.4g}" for sigma in sigmas]
    shown = shown if len(shown) <= 6 else [*shown[:3], "...", *shown[-2:]]
    return f"{len(sigmas)} sigmas ({', '.join(shown)})"


def branches_of(denoised, x, count):
    """The branches of a raw output: (count * B, ...) -> ``count`` tensors (B, ...), uncond first."""
    if denoised.shape[0] != count * x.shape[0] or denoised.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"the denoiser's output has shape {tuple(denoised.shape)}, {count} branch(es) of x, {tuple(x.shape)}, were fitted"
        )
    return list(denoised.chunk(count))


class CalibratedRun:
    """A run whose answers are fitted. Begins with its ``calibration``, one ``budget`` of it, and the run's sigmas."""

    def __init__(self, calibration, budget, settings):
        self.rows, self.branches, self.settings = budget.rows, calibration.branches, settings
        self.sigmas = calibration.fitted.sigmas
        self.history = deque(maxlen=calibration.history)
        self.report = Report()
        self.step = None

    @classmethod
    def fitting(cls, calibration, guider, sigmas, sampler):
        """The run that ``guider`` begins for ``sampler``. ValueError where the calibration was fitted for another."""
        if sampler is None:
            raise ValueError("a calibration needs a sampler that begins its runs through the shim")
        require_same(calibration.fitted, describe(sampler, guider, sigmas), sigmas.dtype)
        return cls(calibration, calibration.budget(guider.settings.calls), guider.settings)

    def visit(self, x, sigma, gated):
        """The next visit, entered in the report. ValueError where it is not the one that the calibration has next."""
        number = len(self.report.visits)
        row = self.rows[number] if number < len(self.rows) else None
        asked = sigma.flatten().double()
        eps = 4 * torch.finfo(sigma.dtype).eps
        if row is None or bool(((asked - row.sigma).abs() > eps * row.sigma).any()):
            expected = "none" if row is None else f"sigma {row.sigma:.6g}"
            raise ValueError(
                f"the calibration does not fit this run: visit {number} is at sigma {asked[0]:.6g} here, "
                f"it was fitted for {expected}"
            )
        action = CALL if row.call or not gated else FORECAST
        visit = Visit(row.step, row.sigma, action, "calibrated" if gated else "not gated", self.sigmas.index(row.sigma))
        self.report.visits.append(visit)
        return visit

    def answer(self, visit, x, denoised, combine, varying=False):
        """The guided output: fitted, or the inner guider's where an ungated denoiser has answered anyway."""
        if visit.reason == "not gated":
            return combine(denoised)
        row = self.rows[len(self.report.visits) - 1]
        if row.call:
            branches = [combine(denoised)] if self.branches == 1 else branches_of(denoised, x, self.branches)
            self._remember(visit, branches, bool(row.low))
        outputs = [branch for held in self.history for branch in held.branches]
        lows = [low for held in self.history for low in held.lows]
        visit.order, visit.weight_sum = len(self.history) - 1, sum(map(abs, row.weights[1:]))
        dtype, device = self._out
        return answer(row, x.to(outputs[0].device), outputs, lows, dtype).to(device)

    def _remember(self, visit, branches, with_lows):
        self._out = branches[0].dtype, branches[0].device
        for branch in branches:
            require_finite(branch, visit)
        kept, where = self.settings.history_dtype or branches[0].dtype, self.settings.history_device
        copies = [branch.detach().to(kept, copy=True).to(where or branch.device) for branch in branches]
        self.history.appendleft(Held(copies, [pooled(copy) for copy in copies] if with_lows else []))
        self.report.hold(tensor for held in self.history for tensor in (*held.branches, *held.lows))
