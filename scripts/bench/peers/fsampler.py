"""FSampler (arXiv 2511.09180), version 1.5.0: skip the network where an extrapolation of what it gave is trusted.

Written after the code of its ComfyUI node (github.com/obisin/ComfyUI-FSampler), with the simple node's settings where not said
otherwise. Followed: both ways to choose steps (a fixed cadence, as "h2/s2", and "adaptive"), extrapolation of orders 2 to 4 of
the denoised output or of eps, over sigmas or over steps, and the stabilizer learned on the way. Left out: correction of skipped
slopes ("grad_est"), steps named by hand, noise between steps, and its own integrators: any solver here takes it, and the adaptive
gate compares Euler's next x, as under its Euler and Heun. ``published`` runs its own code, integrators included. As there, one
decision is made for a whole batch.
"""

import importlib
import io
import sys
import types
from collections import deque
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

from . import forecasts
from .solvers import standalone, start

TOLERANCE = 0.1  # relative, of the adaptive gate
LEAST, MOST = 0.5, 2.0  # of the stabilizer
USUAL = {"sigma_aware": True, "denoised": True, "smoothing": 0.9999, "first": 2, "last": 3, "anchor": 4, "streak": 4}
NAMES = {  # of these in the published code
    "denoised": "extrapolate_denoised",
    "smoothing": "smoothing_beta",
    "first": "protect_first_steps",
    "last": "protect_last_steps",
    "anchor": "anchor_interval",
    "streak": "max_consecutive_skips",
}
EVEN = {"sigma_aware": False, "denoised": False}  # as before version 1.5
SETTINGS = {  # in the table: from 18 calls of 20 down to 8
    "h4/s4": ("h4/s4", {}),
    "h3/s3": ("h3/s3", {}),
    "h2/s2": ("h2/s2", {}),
    "h2/s2, even": ("h2/s2", EVEN),
    "adaptive": ("adaptive", {}),
    "adaptive, even": ("adaptive", EVEN),
    "adaptive, no anchors": ("adaptive", {"anchor": 0}),
}
PACKAGE = "fsampler_published"


class FSampler:
    """``denoise`` of one run, to be called once a node of ``sigmas``: it calls the network or foretells.

    ``mode`` is "hN/sK", order N and one skipped after K called, or "adaptive": skipped where orders 3 and 2 agree, but for every
    ``anchor``-th node (0: none is) and after ``streak`` skipped ones. The ``first`` and ``last`` nodes are called.
    """

    def __init__(self, denoise, sigmas, mode, learning=True, **settings):
        self.network, self.sigmas, self.mode, self.learning = denoise, [float(sigma) for sigma in sigmas], mode, learning
        settings = USUAL | settings
        self.sigma_aware, self.denoised, self.smoothing = (settings[name] for name in ("sigma_aware", "denoised", "smoothing"))
        self.first, self.anchor, self.streak = (settings[name] for name in ("first", "anchor", "streak"))
        self.last = len(sigmas) - 1 - settings["last"]
        self.order, self.after = (2, None) if mode == "adaptive" else (int(part[1:]) for part in mode.split("/"))
        self.node, self.skipped, self.scale, self.history = 0, 0, 1.0, deque(maxlen=4)

    def __call__(self, x, sigma):
        eps = self._foretell(x) if self.first <= self.node < self.last else None
        if eps is None:
            denoised, self.skipped = self.network(x, sigma), 0
            self._learn(x, denoised)
        else:
            trusted = self.learning and len(self.history) >= 3
            denoised, self.skipped = x + (eps / self.scale if trusted else eps), self.skipped + 1
        self.node += 1
        return denoised

    def _foretell(self, x):
        """eps = denoised - x of this node, or None where it is to be called."""
        if self.mode == "adaptive":
            return self._agreed(x)
        due = (self.node - max(self.first, self.order)) % (self.after + 1) == self.after
        return self.extrapolate(self.order, x) if due and len(self.history) >= self.order else None

    def _agreed(self, x):
        anchored = self.anchor and (self.node - self.first) % self.anchor == 0
        if len(self.history) < 3 or self.skipped >= self.streak or anchored:
            return None
        high, low = self.extrapolate(3, x), self.extrapolate(2, x)
        part = self.sigmas[self.node + 1] / self.sigmas[self.node] - 1  # of an Euler step, x - part * eps
        miss = part * (high - low)
        return high if miss.norm() <= TOLERANCE * (x - part * high).norm() else None

    def extrapolate(self, order, x):
        """eps at this node from the newest ``order`` of the history, by Lagrange over sigma or over steps taken as even."""
        known = list(self.history)[-order:]
        at = [sigma for sigma, _, _ in known] if self.sigma_aware else range(len(known))
        to = self.sigmas[self.node] if self.sigma_aware else len(known)
        weights = lagrange(at, to)
        if self.denoised:
            return sum(w * output for w, (_, output, _) in zip(weights, known, strict=True)) - x
        return sum(w * eps for w, (_, _, eps) in zip(weights, known, strict=True))

    def _learn(self, x, denoised):
        """Keep what the network gave. The stabilizer: an extrapolation's length, this node in it already, against its own."""
        eps = denoised - x
        self.history.append((self.sigmas[self.node], denoised, eps))
        if len(self.history) >= 3:
            ratio = float(self.extrapolate(self.order, x).norm() / (eps.norm() + 1e-8))
            self.scale = min(max(self.smoothing * self.scale + (1 - self.smoothing) * ratio, LEAST), MOST)


def lagrange(at, to):
    """Weights of the values at ``at`` in the polynomial through them, at ``to``."""
    weights = []
    for i, own in enumerate(at):
        weight = 1.0
        for j, other in enumerate(at):
            weight *= 1.0 if i == j else (to - other) / (own - other)
        weights.append(weight)
    return weights


def heun(denoise, noise, sigmas):
    """Heun on the terms of ``forecasts``: a node is asked for once, so it is decided upon once."""
    return forecasts.heun(denoise, noise, sigmas, lambda node: True, forecasts.Reuse())


def on(solve):
    """``solve``, which asks once a node, with FSampler between it and the network."""
    return lambda denoise, noise, sigmas, mode, **settings: solve(FSampler(denoise, sigmas, mode, **settings), noise, sigmas)


def methods(root=None):
    """[(label, setting, ``solve(denoise, noise, sigmas)``)]; with a checkout at ``root`` also its code, under its own sampler."""
    solvers = {"FSampler": on(heun), "FSampler, DPM++2M": on(standalone("DPMPP2MSampler"))}
    if root:
        solvers["FSampler 1.5.0 (its code), res_2m"] = partial(published(root), sampler="res_2m")
    rows = [
        (label, setting, solve, mode, given) for label, solve in solvers.items() for setting, (mode, given) in SETTINGS.items()
    ]
    return [(label, setting, partial(solve, mode=mode, **given)) for label, setting, solve, mode, given in rows]


def published(root):
    """The code of the checkout ``root``, outside of ComfyUI, as ``solve(denoise, noise, sigmas, mode, sampler, **settings)``.

    Of ComfyUI it wants a few modules by name, none of which does anything here. What it prints is dropped.
    """
    with _comfy(Path(root)):
        engine = importlib.import_module(f"{PACKAGE}.sampling.engine")

    def solve(denoise, noise, sigmas, mode, sampler="euler", learning=True, **settings):
        options = {NAMES.get(name, name): value for name, value in (USUAL | settings).items()}
        options |= {"adaptive_mode": "learning" if learning else "none", "official_comfy": True}
        sigmas = sigmas.to(noise.device)
        with redirect_stdout(io.StringIO()):
            with _comfy(Path(root)):
                run = engine.create_fsampler_ksampler(sampler=sampler, skip_mode=mode, **options)
            try:
                return run(lambda x, sigma: denoise(x, sigma[0]), start(noise, sigmas), sigmas)
            finally:
                engine.set_sigma_target(None)  # both outlive a run there, and change the next one if that has other settings
                engine.set_current_x(None)

    return solve


@contextmanager
def _comfy(root):
    """Stand-ins for ComfyUI's modules, and the checkout as a package whose own __init__, which makes nodes, is not run."""
    parts = ("sample", "samplers", "model_sampling", "sampler_helpers", "model_patcher", "patcher_extension", "hooks")
    names = {"comfy": types.ModuleType("comfy")} | {f"comfy.{part}": types.ModuleType(f"comfy.{part}") for part in parts}
    for part in parts:
        setattr(names["comfy"], part, names[f"comfy.{part}"])
    names["comfy.samplers"].KSAMPLER = lambda run: run
    own = types.ModuleType(PACKAGE)
    own.__path__ = [str(root)]
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.setdefault(PACKAGE, own)
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
