"""Forecasts by others: Heun on our 20 nodes, where a skipped node's output is foretold from those of called ones.

A forecaster has ``update(node, x, output)`` for a called node and ``predict(node, x)`` for a skipped one. All of them work on the
guided output and count nodes as steps, as the packages do. A called node is called once: Heun's second visit takes that output,
as in our own default, so that every method gets the same terms.
"""

import math
from collections import deque
from itertools import pairwise

import torch

from .solvers import start


def heun(denoise, noise, sigmas, wanted, forecaster):
    """Heun's method that calls ``denoise`` where ``wanted(node)`` and asks ``forecaster`` elsewhere."""
    x, at, output = start(noise, sigmas), None, None

    def ask(x, node):
        nonlocal at, output
        if node != at:
            if wanted(node):
                output = denoise(x, sigmas[node])
                forecaster.update(node, x, output)
            else:
                output = forecaster.predict(node, x)
            at = node
        return output

    for node, (sigma, following) in enumerate(pairwise(sigmas)):
        d = (x - ask(x, node)) / sigma
        euler = x + (following - sigma) * d
        if following > 0:
            d = (d + (euler - ask(euler, node + 1)) / following) / 2
        x = x + (following - sigma) * d
    return x


class Reuse:
    """The last output, as it was."""

    def update(self, node, x, output):
        self.output = output

    def predict(self, node, x):
        return self.output


class TaylorSeer:
    """The recurrence of the TaylorSeer code (arXiv 2503.06923): every order's difference over the newest gap alone."""

    def __init__(self, order):
        self.order, self.node, self.factors = order, None, []

    def update(self, node, x, output):
        factors = [output]
        for older in self.factors[: self.order]:
            factors.append((factors[-1] - older) / (node - self.node))
        self.node, self.factors = node, factors

    def predict(self, node, x):
        return sum(f * (node - self.node) ** i / math.factorial(i) for i, f in enumerate(self.factors))


class DiffusersTaylorSeer:
    """The state that diffusers keeps for every module under ``TaylorSeerCacheConfig``, in float32."""

    def __init__(self, order):
        from diffusers.hooks.taylorseer_cache import TaylorSeerState

        self.state = TaylorSeerState(taylor_factors_dtype=torch.float32, max_order=order)

    def update(self, node, x, output):
        self.state.current_step = node
        self.state.update((output,))

    def predict(self, node, x):
        self.state.current_step = node
        return self.state.predict()[0]


class CacheDitTaylorSeer:
    """The state of cache-dit's TaylorSeer calibrator. Its differences begin after step 1."""

    def __init__(self, order):
        from cache_dit.caching.cache_contexts.calibrators.taylorseer import TaylorSeerState

        self.state = TaylorSeerState(n_derivatives=order)

    def update(self, node, x, output):
        self.state.current_step = node
        self.state.update(output)

    def predict(self, node, x):
        self.state.current_step = node
        return self.state.approximate()


class HiCache:
    """hicache-pp: Hermite polynomials (arXiv 2508.16984), or DMD, which is Hermite until it has four evenly spaced outputs."""

    def __init__(self, backend, order=2, contraction=0.5):
        import hicache_pp

        self.package, self.backend = hicache_pp, backend
        self.state = hicache_pp.hicache_init(num_steps=10**6, max_order=order, sigma=contraction, backend=backend)

    def update(self, node, x, output):
        self.state["step"] = node
        self.state["activated_steps"].append(node)
        self.package.hicache_update_derivatives(self.state, output)
        if self.backend == "dmd":
            self.package.dmd_update_snapshots(self.state, output)

    def predict(self, node, x):
        self.state["step"] = node
        forecast = self.package.dmd_forecast_state if self.backend == "dmd" else self.package.hicache_forecast
        return forecast(self.state)


class Linear:
    """Fixed weights for each skipped node: ``rows[node]`` weighs the newest outputs, newest first. See ``fitted.l2p``."""

    def __init__(self, rows, history):
        self.rows, self.history = rows, deque(maxlen=history)

    def update(self, node, x, output):
        self.history.appendleft(output)

    def predict(self, node, x):
        return sum(w * output for w, output in zip(self.rows[node], self.history, strict=True))


def available():
    """({name: make}, {package that is not there: names}) of the forecasts that need no fit; ``make()`` begins a run."""
    found, missing = {"reuse": Reuse}, {}
    try:
        DiffusersTaylorSeer(1)
        seer, owner = DiffusersTaylorSeer, "diffusers"
    except ImportError:
        try:
            CacheDitTaylorSeer(1)
            seer, owner = CacheDitTaylorSeer, "cache-dit"
        except ImportError:
            seer, owner = TaylorSeer, "own"
    for order in (1, 2):
        found[f"TaylorSeer {order} ({owner})"] = lambda order=order: seer(order)
    try:
        HiCache("hermite")
        found["HiCache 2 (hicache-pp)"] = lambda: HiCache("hermite")
        found["DMD (hicache-pp)"] = lambda: HiCache("dmd")
    except ImportError:
        missing["hicache-pp"] = "HiCache, DMD"
    return found, missing
