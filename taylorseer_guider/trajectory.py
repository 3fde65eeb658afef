"""One sampling run: its plan, its history and its report."""

import math
from collections import deque
from dataclasses import dataclass

import torch

from .adaptive import ErrorModel, rms
from .forecast import BASES, COORDINATES, QUANTITIES, SIGMA_DATA, distinct, weighted_sum
from .report import CALL, FORECAST, Report, Visit
from .schedule import plan
from .settings import AUTO

NEAR = 1e-5  # relative distance below which two sigmas are one: samplers reach a node by way of logarithms, too


@dataclass(frozen=True)
class Output:
    """What the denoiser gave at one sigma: the guided output or its eps or v, a copy that nobody else holds or writes."""

    sigma: float
    step: int | None
    node: int | None
    value: torch.Tensor


def require_finite(output, visit):
    """Raise FloatingPointError where an output that the denoiser gave at ``visit`` holds a NaN or an infinity."""
    if not torch.isfinite(output).all():
        raise FloatingPointError(
            f"the guided output at step {visit.step}, sigma {visit.sigma} is not finite and was not kept; look at the "
            "denoiser's inputs there, its dtype (float16 overflows) and the guidance scale"
        )


class Trajectory:
    """The state of one run. It begins with the run's schedule and is dropped when the run ends.

    ``keys`` (1-d tensor) are the schedule as the sampler hands it out. A schedule that falls holds sigmas. One that rises holds
    square roots of alpha_cumprod, the share of the image in a variance-preserving x: sigma is sqrt(1 - key^2) / key, infinite
    at the key 0 of pure noise, and the last key ends the schedule without being visited. Where ``noisy``, the sampler may add
    noise between visits, which forecasts must not hand on.
    """

    def __init__(self, settings, keys, noisy=True):
        self.settings = settings
        self.keys = keys.detach().double().cpu()
        self.preserving = len(keys) > 1 and bool(self.keys[1] > self.keys[0])
        self.sigmas = [self._sigma(key) for key in self.keys.tolist()]
        nodes = self.sigmas[:-1] if self.preserving else [sigma for sigma in self.sigmas if sigma > 0]
        self.plan = plan(
            nodes,
            interval=settings.interval if settings.tolerance is None else max(len(nodes), 1),
            warmup=settings.warmup,
            tail=settings.tail,
            activate=settings.activate,
            step_threshold=settings.step_threshold,
            calls=settings.calls,
        )
        self.report = Report()
        self.step = None
        self.history = deque(maxlen=settings.max_order + 1)  # Outputs, newest first
        self._forecast_as(settings.quantity_on(noisy or self.preserving))
        self.errors = ErrorModel() if settings.tolerance is not None else None
        self._size = 0.0  # RMS of the newest guided output
        self._rounded = {}  # dtype -> the keys rounded to it; hosts hand them over in the dtype of x
        self._like = None  # shape, dtype and device of the x that history was made from
        self._out = None  # dtype and device of the inner guider's output
        self._tiled = False

    def _forecast_as(self, quantity):
        self._mix = QUANTITIES[quantity]
        self._coordinate = COORDINATES[self.settings.coordinate_of(quantity)]

    def _sigma(self, key):
        if not self.preserving:
            return key
        return math.sqrt(max(1 - key**2, 0)) / key if key > 0 else math.inf

    def visit(self, x, key, gated):
        """Decide on one visit at ``x`` (B, ...) and ``key`` (B,), and enter it in the report. Returns a Visit."""
        shared = set(key.flatten().tolist())
        common = shared.pop() if len(shared) == 1 else math.nan
        sigma = self._sigma(common)
        like = (x.shape, x.dtype, x.device)
        if like != self._like:
            self.history.clear()
            self.errors = self.errors and ErrorModel()
            self._like = like
        node = self._node(common, key.dtype)
        action, reason = self._decide(sigma, node, gated)
        visit = Visit(self.step, sigma if 0 < sigma < math.inf else None, action, reason, node)
        self.report.visits.append(visit)
        return visit

    def _decide(self, sigma, node, gated):
        if not self.settings.use_cache:
            return CALL, "cache off"
        if not gated:
            return CALL, "not gated"
        if not 0 < sigma < math.inf:
            return CALL, "infinite sigma" if sigma == math.inf else "no common sigma"
        held = self._held(sigma)
        if held is not None and held.step == self.step:
            self._tiled = True  # the same sigma twice in one step: other x are sampled in turn, as tiled samplers do
        if self._tiled:
            return CALL, "tiled"
        if node is None:
            return CALL, "unknown sigma"
        if not self.history:
            return CALL, "no history"
        if held is not None and self.settings.repeat_visits != "compute":
            return FORECAST, "repeated"
        if self.settings.repeat_visits == "later" and self._comes_again(node):
            return FORECAST, "called later"
        if self.plan[node]:
            return CALL, "planned"
        return (FORECAST, "skipped") if self.errors is None else self._adapt(sigma, node)

    def _comes_again(self, node):
        """Whether this visit looks ahead to ``node``, as Heun's corrector does: the next step begins there, at a better x."""
        return self.step is not None and node > self.step

    def _adapt(self, sigma, node):
        """Forecast where the error to expect is within ``tolerance``, but not more than ``max_skip`` nodes in a row."""
        newest = self.history[0].node
        if newest is None or node - newest > self.settings.max_skip:
            return CALL, "max_skip"
        return (FORECAST, "skipped") if self._expected(sigma)[1] <= self.settings.tolerance else (CALL, "tolerance")

    def _expected(self, sigma):
        """(order, error to expect) of the best forecast at ``sigma``: what it will do to x, as a share of the guided output.

        As dx = (x - D) dlog(sigma), an error of D counts by the distance in log(sigma) over which it stands in for a call. Of an
        error of x at sigma, Gaussian data of spread SIGMA_DATA keep SIGMA_DATA / hypot(SIGMA_DATA, sigma) at the end, real data
        more, as their details follow x: the root of it is what served the embedded model and a mixture both.
        """
        order, error = self.errors.best(sigma)
        error *= self._mix(sigma)[1] if self._mix else 1.0
        error *= math.sqrt(SIGMA_DATA / math.hypot(SIGMA_DATA, sigma))
        return order, error / self._size * math.log(self.history[0].sigma / sigma) if self._size else math.inf

    def _node(self, key, dtype):
        """Index of the node that ``key`` is, or of the step that contains it; None where the run has no such step."""
        if not self.plan:
            return None
        if dtype not in self._rounded:
            self._rounded[dtype] = self.keys.to(dtype).tolist()
        keys = self._rounded[dtype]
        near = min(range(len(self.plan)), key=lambda i: abs(keys[i] - key))
        if abs(keys[near] - key) <= NEAR * key:
            return near
        if self.step is not None:
            return self.step
        passed = sum(sigma >= self._sigma(key) for sigma in self.sigmas)
        return min(max(passed - 1, 0), len(self.plan) - 1)

    def _held(self, sigma):
        return next((output for output in self.history if math.isclose(output.sigma, sigma, rel_tol=NEAR)), None)

    def answer(self, visit, x, denoised, combine, varying=False):
        """The guided output of a visit. ``combine`` is the inner guider, ``denoised`` the raw output where there was a call.

        Where the inner guider combines differently from visit to visit (``varying``), the branches are what is remembered and
        forecast, and it combines them at every visit; else it is the guided output, which costs half.
        """
        if visit.action == FORECAST:
            output = self.forecast(visit, x)
            return combine(output) if varying else output
        guided = combine(denoised)
        self.remember(visit, x, denoised if varying else guided)
        return guided

    def remember(self, visit, x, denoised):
        """Take the guided output of a call into history. Raises FloatingPointError where it is not finite."""
        if not self.settings.use_cache:
            return
        require_finite(denoised, visit)
        if visit.sigma is None or visit.reason == "tiled":
            return
        for held in [output for output in self.history if output.node == visit.node]:
            self.history.remove(held)
        value = self._kept(visit.sigma, x, denoised)
        if self.errors is not None:
            self._learn(visit.sigma, value)
            self._size = rms(denoised).amin().item()
        self.history.appendleft(Output(visit.sigma, visit.step, visit.node, value))
        self._out = denoised.dtype, denoised.device
        self.report.hold(output.value for output in self.history)

    def _learn(self, sigma, value):
        """Compare ``value`` with what each order would have forecast of it."""
        nodes = [self.errors.coordinate(at) for at in (sigma, *(output.sigma for output in self.history))]
        outputs = [self.history[i - 1] for i in distinct(nodes, self.settings.max_order + 2)[1:]]
        sigmas, values = [output.sigma for output in outputs], [output.value for output in outputs]
        self.errors.learn(sigma, value, sigmas, values, self._interpolate)

    def _kept(self, sigma, x, denoised):
        dtype = self.settings.history_dtype or denoised.dtype
        if self._mix and x.shape != denoised.shape:
            if self.settings.quantity != AUTO:
                shapes = f"x is {tuple(x.shape)}, the output {tuple(denoised.shape)}"
                raise ValueError(f"quantity={self.settings.quantity!r}: {shapes}; use 'denoised'")
            self._forecast_as("denoised")
        if self._mix:
            skip, out = self._mix(sigma)
            value = weighted_sum([skip * self._unscale(sigma) / out, -1 / out], [x, denoised], dtype)
        else:
            value = denoised.detach().to(dtype, copy=True)
        return value.to(self.settings.history_device or value.device)

    def _unscale(self, sigma):
        """What turns x into image + sigma * noise."""
        return math.sqrt(1 + sigma**2) if self.preserving else 1.0

    def forecast(self, visit, x):
        """The guided output at ``visit.sigma``, forecast: a new tensor of the inner guider's shape, dtype and device."""
        outputs, weights = self._weights(visit)
        visit.order, visit.weight_sum = len(weights) - 1, sum(map(abs, weights))
        values = [output.value for output in outputs]
        if self._mix:
            skip, out = self._mix(visit.sigma)
            values = [x.to(values[0].device), *values]
            weights = [skip * self._unscale(visit.sigma), *(-out * weight for weight in weights)]
        dtype, device = self._out
        return weighted_sum(weights, values, dtype).to(device)

    def _weights(self, visit):
        if visit.reason == "repeated":
            return [self._held(visit.sigma)], [1.0]
        order = self.settings.max_order
        if self.errors is not None and self.errors.constants:
            order, visit.error = self._expected(visit.sigma)
        outputs = [self.history[i] for i in distinct([self._coordinate(output.sigma) for output in self.history], order + 1)]
        return outputs, self._interpolate([output.sigma for output in outputs], visit.sigma)

    def _interpolate(self, sigmas, sigma):
        """Weights of outputs at ``sigmas``, newest first, in the forecast at ``sigma``."""
        return BASES[self.settings.basis]([self._coordinate(other) for other in sigmas], self._coordinate(sigma))
