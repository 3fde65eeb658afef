"""What a calibration fits: runs, the solutions that they should reach, and what a row may weigh."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..forecast import newton_weights
from .scales import branched, mixing, widened
from .squares import gram


def mean_squares(x, reference):
    """Distance of each sample to its reference: (B, ...) -> (B,) float64."""
    return (x.to(reference.dtype) - reference).square().flatten(1).mean(1).double()


def identity(tensor):
    return tensor


@dataclass(frozen=True)
class Problem:
    """What is fitted: the runs, the solution that each should reach, and what may be weighed."""

    probes: list
    references: list  # a Reference for each of them
    branches: int
    history: int  # outputs that a row may weigh
    low: bool  # whether 4x4 means of everything are weighed too
    peak: float  # of the PSNR
    theory: Callable  # (sigmas down to 0, nodes that are called, scale) -> of each visit the weights that need no fit
    scales: tuple  # that weights are told for; the guider's own where there is but one
    sigmas: tuple  # from the first call down to 0
    left_out: tuple = ()  # samples, of all runs one after another, that weights are not fitted to
    seen: Callable = identity  # (B, ...) -> what of it is compared with the references, where they are not whole
    looked_up: bool = False  # whether the denoiser looks its sigma up, so that no gradient goes to it

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
    def judging(self):
        """Those that are left out, if there are any, else all."""
        return list(self.left_out) or self.fitted

    def kept(self, run):
        """Which samples of ``run`` weights are fitted to."""
        begin = sum(len(probe.x) for probe in self.probes[:run])
        return [n for n in range(len(self.probes[run].x)) if begin + n not in self.left_out]

    def shares(self, run):
        """What part the weights at each of ``scales`` have in those of ``run``."""
        return newton_weights(self.scales, self.probes[run].scale) if len(self.scales) > 1 else [1.0]

    @property
    def parts(self):
        """Into how many parts the weights of a row fall: those of whole tensors, and those of means."""
        return 1 + self.low

    @property
    def blocks(self):
        """Into how many blocks, each of x and of outputs: for every one of ``scales``, and again for means."""
        return self.parts * len(self.scales)

    def rows(self, sigmas, nodes):
        """What theory has for each visit of ``sigmas``, of which ``nodes`` are called, as a file's rows: (n,) float64 each."""
        each = [self.theory(sigmas, nodes, scale) for scale in self.scales]
        return [self._row(told, sum(node <= visit for node in nodes)) for visit, told in enumerate(zip(*each, strict=True))]

    def _row(self, told, calls):
        """A row of the weights ``told`` for each of the scales, of x and of guided outputs, newest first, after ``calls``."""
        found = []
        for scale, (x, *outputs) in zip(self.scales, told, strict=True):
            held = min(calls, self.history)
            found += [x, *branched([*outputs, *[0.0] * (held - len(outputs))], scale, self.branches)]
        return torch.tensor([*found, *[0.0] * (len(found) * self.low)], dtype=torch.float64, device="cpu")

    def mixed(self, row, run):
        """The weights of ``row`` at the scale of ``run``."""
        shares, parts = self.shares(run), self.parts
        return row if len(shares) == 1 else mixing(shares, len(row) // len(shares) // parts, parts) @ row

    def products(self, walk, run):
        """Gram matrices, sample by sample, of what a row weighs where ``walk``, of ``run``, is."""
        return widened(gram([*map(self.seen, walk.regressors())]), self.shares(run), self.parts, targets=0)

    def first_output(self, run):
        """The branches of the first output of ``run``, which sees the noise, whatever the weights."""
        return [branch.to(self.probes[run].x.device) for branch in self.references[run].first]

    def missed(self, end, run):
        """ln of the mean square error of each sample of ``run`` that ends at the x ``end``: (B,) float64, on the CPU."""
        return mean_squares(self.seen(end), self.reference(run, -1)).clamp(min=1e-30).log().cpu()

    def decibels(self, errors):
        """PSNR of samples that miss their reference by ``errors``, mean squares: (S,) both."""
        return 10 * torch.log10(self.peak**2 / errors.clamp(min=1e-30))
