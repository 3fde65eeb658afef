"""TaylorSeer in its own form (arXiv 2503.06923): features inside the network are cached and forecast, not its output.

On a *full* pass every block's attention and feed-forward run, and each keeps its output and the differences over the newest gap
between full passes (``hooks.py``). On any other pass these modules answer with that Taylor series; all else in the network runs
always, on the x of the visit. With guidance, both branches are one batch, so one state holds both.

Left out: the full steps in a row that the paper's code and diffusers begin with; a budget is spread evenly instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from taylorseer_guider.tiny.model import edm_denoiser, load_network

from ..devices import clock_of
from ..workloads import Workload
from .fitted import evenly
from .hooks import best_hooks
from .solvers import standalone

SOLVERS = {"Heun": "HeunEDMSampler", "Euler": "EulerEDMSampler", "DPM++2M": "DPMPP2MSampler"}
READINGS = ("once", "nodes", "visits")


class Passes:
    """A run's visits as steps of the cache: which pass of the network is full, and how many were.

    What a step is where Heun comes twice to a node is a matter of ``reading``, for the paper has no such solver. "once": a node
    is a step and has one pass; the second visit takes its output, as all methods of ``forecasts.py`` do. "nodes": a node is a
    step, and its second visit is one more pass, on its own x, with the node's features held or forecast. "visits": each visit is
    a step, as where hooks count the network's calls (diffusers): 39 with 20 nodes.
    """

    def __init__(self, features, sigmas, plan, reading="once"):
        if reading not in READINGS:
            raise ValueError(f"reading={reading!r}: choose one of {', '.join(READINGS)}")
        self.features, self.plan, self.reading = features, frozenset(plan), reading
        self.nodes = {float(sigma): node for node, sigma in enumerate(sigmas)}
        self.visits = self.count = self.full = self.peak_bytes = 0
        self.node = self.output = None

    def __call__(self, sigma, network):
        """The output of a visit at ``sigma``; ``network`` is called without arguments for a pass."""
        node, again = self.nodes[float(sigma)], self.nodes[float(sigma)] == self.node
        if again and self.reading == "once":
            return self.output
        step = self.visits if self.reading == "visits" else node
        full = step in self.plan and not (again and self.reading == "nodes")
        self.features.at(step, full)
        output = network()
        self.visits, self.count, self.full = self.visits + 1, self.count + 1, self.full + full
        if full:
            self.peak_bytes = max(self.peak_bytes, self.features.bytes())
        self.node, self.output = node, output if self.reading == "once" else None
        return output


@dataclass
class Run:
    """A run of ``workload`` with features of ``modules`` forecast, begun: call it once, and it samples and returns x.

    Afterwards it says what that took: ``full`` passes, ``passes`` in all, ``seconds``, ``peak_bytes`` of cache. The workload's
    ``calls`` and ``branches`` are those of the full passes; its ``seconds`` are of all passes.
    """

    workload: Workload
    denoiser: Callable = field(repr=False)  # of the network that holds ``modules``
    modules: list = field(repr=False)
    plan: list
    order: int
    solver: str
    reading: str
    hooks: type
    full: int = 0
    passes: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0

    @torch.no_grad()
    def __call__(self):
        hooked = replace(self.workload, denoiser=self.denoiser, calls=0, branches=0.0, seconds=0.0)
        sigmas, clock = self.workload.sigmas(), clock_of(self.workload.noise.device)
        clock.start()
        with self.hooks(self.modules, self.order) as features:
            passes = Passes(features, sigmas, self.plan, self.reading)

            def denoise(x, sigma):
                return passes(sigma, lambda: hooked.denoise(x, sigma))

            x = standalone(SOLVERS[self.solver])(denoise, hooked.noise, sigmas)
        self.seconds = clock.stop()
        self.full, self.passes, self.peak_bytes = passes.full, passes.count, passes.peak_bytes
        self.workload.calls += self.full
        self.workload.branches += hooked.branches * self.full / self.passes
        self.workload.seconds += hooked.seconds
        return x


def begin(workload, budget, order, solver="Heun", reading="once", hooks=None, plan=None):
    """A ``Run`` of the embedded ``workload`` with ``budget`` full passes, on a network of its own that nobody else holds.

    They are spread evenly, or at the steps of ``plan``.
    """
    network = load_network(device=workload.noise.device)
    denoiser = partial(edm_denoiser(), network)
    return on_modules(workload, denoiser, blocks(network), budget, order, solver, reading, hooks, plan)


def on_modules(workload, denoiser, modules, budget, order, solver="Heun", reading="once", hooks=None, plan=None):
    """A ``Run`` with any ``denoiser`` whose network holds ``modules``; they are hooked while it samples, and not after."""
    plan = plan or evenly(budget, steps(len(workload.sigmas()) - 1, solver, reading))
    return Run(workload, denoiser, list(modules), plan, order, solver, reading, hooks or best_hooks())


def steps(nodes, solver, reading):
    """How many steps of the cache a run over ``nodes`` has."""
    return 2 * nodes - 1 if solver == "Heun" and reading == "visits" else nodes


def blocks(network):
    """The attention (or what stands for it) and the feed-forward of every layer of the embedded network."""
    layers = [*network.encoder, *network.middle, *network.decoder]
    return [module for layer in layers for module in (layer.mixer, layer.feed_forward)]
