"""One sampling run: its plan, its history and its report."""

import math
from collections import deque
from dataclasses import dataclass

import torch

from .forecast import BASES, COORDINATES, distinct, weighted_sum
from .report import CALL, FORECAST, Report, Visit
from .schedule import plan


@dataclass(frozen=True)
class Output:
    """What the denoiser gave at one sigma: the guided output or its eps, a copy that nobody else holds or writes."""

    sigma: float
    step: int | None
    value: torch.Tensor


def require_finite(output, visit):
    """Raise FloatingPointError where an output that the denoiser gave at ``visit`` holds a NaN or an infinity."""
    if not torch.isfinite(output).all():
        raise FloatingPointError(
            f"the guided output at step {visit.step}, sigma {visit.sigma} is not finite and was not kept; look at the "
            "denoiser's inputs there, its dtype (float16 overflows) and the guidance scale"
        )


class Trajectory:
    """The state of one run. It begins with the run's ``sigmas`` (1-d tensor) and is dropped when the run ends."""

    def __init__(self, settings, sigmas):
        self.settings = settings
        self.sigmas = sigmas.detach().double().cpu()
        nodes = [sigma for sigma in self.sigmas.tolist() if sigma > 0]
        self.plan = plan(
            nodes,
            interval=settings.interval,
            warmup=settings.warmup,
            tail=settings.tail,
            activate=settings.activate,
            step_threshold=settings.step_threshold,
        )
        self.report = Report()
        self.step = None
        self.history = deque(maxlen=settings.max_order + 1)  # Outputs, newest first
        self._nodes = {}  # dtype -> {sigma rounded to it: node}; hosts hand over sigmas in the dtype of x
        self._like = None  # shape, dtype and device of the x that history was made from
        self._out = None  # dtype and device of the inner guider's output
        self._tiled = False

    def visit(self, x, sigma, gated):
        """Decide on one visit at ``x`` (B, ...) and ``sigma`` (B,), and enter it in the report. Returns a Visit."""
        shared = set(sigma.flatten().tolist())
        value = shared.pop() if len(shared) == 1 else math.nan
        value = value if math.isfinite(value) and value > 0 else None
        like = (x.shape, x.dtype, x.device)
        if like != self._like:
            self.history.clear()
            self._like = like
        action, reason = self._decide(value, self._node(value, sigma.dtype), gated)
        visit = Visit(self.step, value, action, reason)
        self.report.visits.append(visit)
        return visit

    def _decide(self, sigma, node, gated):
        if not self.settings.use_cache:
            return CALL, "cache off"
        if not gated:
            return CALL, "not gated"
        if sigma is None:
            return CALL, "no common sigma"
        held = self._held(sigma)
        if held is not None and held.step == self.step:
            self._tiled = True  # the same sigma twice in one step: other x are sampled in turn, as tiled samplers do
        if self._tiled:
            return CALL, "tiled"
        if node is None:
            return CALL, "unknown sigma"
        if not self.history:
            return CALL, "no history"
        if held is not None and self.settings.repeat_visits == "reuse":
            return FORECAST, "repeated"
        return (CALL, "planned") if self.plan[node] else (FORECAST, "skipped")

    def _node(self, sigma, dtype):
        """Index of the node that ``sigma`` is, or of the step that contains it; None where the run has no such step."""
        if sigma is None or not self.plan:
            return None
        if dtype not in self._nodes:
            self._nodes[dtype] = {value: i for i, value in enumerate(self.sigmas.to(dtype).tolist())}
        exact = self._nodes[dtype].get(sigma)
        if exact is not None or self.step is not None:
            return self.step if exact is None else exact
        below = int((self.sigmas >= sigma).sum()) - 1
        return min(max(below, 0), len(self.plan) - 1)

    def _held(self, sigma):
        return next((output for output in self.history if output.sigma == sigma), None)

    def answer(self, visit, x, denoised, combine):
        """The guided output of a visit: ``combine()``, the inner guider's, where the denoiser was called; else the forecast.

        ``denoised`` is the denoiser's raw output, for runs that look at its branches.
        """
        if visit.action == FORECAST:
            return self.forecast(visit, x)
        guided = combine()
        self.remember(visit, x, guided)
        return guided

    def remember(self, visit, x, denoised):
        """Take the guided output of a call into history. Raises FloatingPointError where it is not finite."""
        if not self.settings.use_cache:
            return
        require_finite(denoised, visit)
        if visit.sigma is None or visit.reason == "tiled":
            return
        if held := self._held(visit.sigma):
            self.history.remove(held)
        self.history.appendleft(Output(visit.sigma, visit.step, self._kept(visit.sigma, x, denoised)))
        self._out = denoised.dtype, denoised.device
        held_bytes = sum(output.value.numel() * output.value.element_size() for output in self.history)
        self.report.peak_bytes = max(self.report.peak_bytes, held_bytes)

    def _kept(self, sigma, x, denoised):
        dtype = self.settings.history_dtype or denoised.dtype
        if self.settings.quantity == "eps":
            if x.shape != denoised.shape:
                raise ValueError(f"quantity='eps': x is {tuple(x.shape)}, the output {tuple(denoised.shape)}; use 'denoised'")
            value = weighted_sum([1 / sigma, -1 / sigma], [x, denoised], dtype)
        else:
            value = denoised.detach().to(dtype, copy=True)
        return value.to(self.settings.history_device or value.device)

    def forecast(self, visit, x):
        """The guided output at ``visit.sigma``, forecast: a new tensor of the inner guider's shape, dtype and device."""
        outputs, weights = self._weights(visit)
        visit.order, visit.weight_sum = len(weights) - 1, sum(map(abs, weights))
        values = [output.value for output in outputs]
        if self.settings.quantity == "eps":
            values = [x.to(values[0].device), *values]
            weights = [1.0, *(-visit.sigma * weight for weight in weights)]
        dtype, device = self._out
        return weighted_sum(weights, values, dtype).to(device)

    def _weights(self, visit):
        if visit.reason == "repeated":
            return [self._held(visit.sigma)], [1.0]
        coordinate, basis = COORDINATES[self.settings.coordinate], BASES[self.settings.basis]
        nodes = [coordinate(output.sigma) for output in self.history]
        chosen = distinct(nodes, self.settings.max_order + 1)
        weights = basis([nodes[i] for i in chosen], coordinate(visit.sigma))
        return [self.history[i] for i in chosen], weights
