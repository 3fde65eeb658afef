"""What a calibration fits: runs, the solutions that they should reach, and what a row may weigh."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..forecast import newton_weights
from .scales import branched


def identity(tensor):
    return tensor


@dataclass(frozen=True)
class Problem:
    """What is fitted: the runs, the solution that each should reach, and what may be weighed."""

    probes: list
    references: list  # a Reference for each of them
    method: str  # "euler" or "heun"
    branches: int
    history: int  # outputs that a row may weigh
    low: bool  # whether 4x4 means of everything are weighed too
    peak: float  # of the PSNR
    theory: Callable  # () -> a Theory, near to whose weights those that are solved stay
    scales: tuple = ()  # that weights are told for; the runs' own where there is but one
    left_out: tuple = ()  # samples, of all runs one after another, that weights are not fitted to
    seen: Callable = identity  # (B, ...) -> what of it is compared with the references, where they are not whole
    schedule: tuple = ()  # sigmas that are walked over, where they are not those of the runs

    @property
    def sigmas(self):
        return self.schedule or self.probes[0].sigmas

    def first(self, count):
        """The same for the first ``count`` runs."""
        return replace(self, probes=self.probes[:count], references=self.references[:count])

    @property
    def samples(self):
        return sum(len(probe.x) for probe in self.probes)

    @property
    def fitted(self):
        """The samples that weights are fitted to, as indices into all."""
        return [sample for sample in range(self.samples) if sample not in self.left_out]

    def reference(self, run, node):
        """The x that ``run`` should have at ``node``."""
        return self.references[run].xs[node].to(self.probes[run].x.device)

    @property
    def few(self):
        """How many of the probes plans are compared on: those of a quarter of the runs, at all scales."""
        at = len({probe.scale for probe in self.probes})
        return -(-len(self.probes) // (4 * at)) * at

    def shares(self, run):
        """What part the weights at each of ``scales`` have in those of ``run``."""
        return newton_weights(self.scales, self.probes[run].scale) if len(self.scales) > 1 else [1.0]

    @property
    def parts(self):
        """Into how many parts the weights of a row fall: those of whole tensors, and those of means."""
        return 1 + self.low

    def expected(self, weights, held):
        """(``weights`` of x and guided outputs, newest first, as a row of ``held`` outputs has them; its blocks)."""
        x, *outputs = weights
        outputs = [*outputs, *[0.0] * (held - len(outputs))]
        told = [[x, *branched(outputs, scale, self.branches)] for scale in self.scales or (1.0,)]
        blocks = [*told, *[[0.0] * len(told[0])] * (len(told) * (self.parts - 1))]
        return sum(blocks, []), len(blocks)

    def first_output(self, run):
        """The branches of the first output of ``run``, which sees the noise, whatever the weights."""
        return [branch.to(self.probes[run].x.device) for branch in self.references[run].first]

    def decibels(self, errors):
        """PSNR of samples that miss their reference by ``errors``, mean squares: (S,) both."""
        return 10 * torch.log10(self.peak**2 / errors.clamp(min=1e-30))
