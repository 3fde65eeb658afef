"""BNS, the Bespoke Non-Stationary solver (arXiv 2403.01329, ICML 2024), from its paper: every x is a x_0 + sum_j b_j u_j.

The u are velocities at all earlier points; a, b and the nodes are trained: n (n + 5) / 2 - 1 numbers for n calls, the ends of
the time being given. Trained for the log of the square error at the run's end, which is its own loss and ours. It begins as
Euler's method or, for an even number of calls, as the midpoint method.

Here u is the velocity of the straight path (1 - t) noise + t data, whatever the network was trained on: the family is the same,
since x and the denoised output span what any other u would. Left out: the change of path before the training at high guidance
(preconditioning), validation on pairs of their own, and schedules of the learning rate of which no code tells.
"""

import torch

from . import training
from .trained import Trained, mixed, solve
from .training import TRIED

__all__ = ["BNS", "fit", "solve", "untrained"]


class BNS(Trained):
    """``shares`` (n): softmax gives the distances between nodes; ``begin`` (n) weighs x_0, ``slopes`` (n, n) u, oldest first."""

    groups = {"steps": ("shares",), "coefficients": ("begin", "slopes")}  # noqa: RUF012

    def times(self):
        """The nodes (n + 1), which rise from the time of sigma ``high`` to 1."""
        first = 1 / (1 + self.high)
        passed = self.tensors["shares"].softmax(0).cumsum(0)
        return torch.cat([passed.new_full((1,), first), first + (1 - first) * passed])

    def walk(self, denoise, noise):
        times, slopes = self.times(), []
        first = noise * ((1 + self.high**2) ** 0.5 / (1 + self.high))
        x = first
        for step in range(self.budget):
            slopes.append(velocity(denoise, x, times[step]))
            row = [self.tensors["begin"][step], *self.tensors["slopes"][step, : step + 1]]
            x = mixed(row, [first, *slopes])
        return x


def velocity(denoise, x, time):
    """u at x = (1 - t) noise + t data: data less noise, as the denoiser tells them apart."""
    denoised = denoise(x / time.to(x), ((1 - time) / time).to(x))
    return mixed([-1 / (1 - time), 1 / (1 - time)], [x, denoised])


def untrained(workload, budget, method="euler"):
    """BNS before its training: Euler's method or the midpoint method on even steps in t, for runs of ``workload``."""
    if method == "midpoint" and budget % 2:
        raise ValueError(f"budget={budget}: the midpoint method takes two calls a step; give an even number, or method='euler'")
    high = float(workload.sigmas()[0])
    step = (1 - 1 / (1 + high)) / budget
    slopes = torch.full((budget, budget), step, dtype=torch.float64).tril()
    if method == "midpoint":
        slopes[:, 0::2], slopes[:, 1::2] = 0.0, 2 * slopes[:, 1::2]
        slopes[range(0, budget, 2), range(0, budget, 2)] = step
    zeros, ones = (torch.full((budget,), value, dtype=torch.float64) for value in (0.0, 1.0))
    return BNS(budget, 0.0, high, {"shares": zeros, "begin": ones, "slopes": slopes})


def fit(workload, budget, gradients, seconds=None, loss="psnr", train=("steps", "coefficients"), seed=0, target=None,
        recipes=TRIED, method="euler"):  # fmt: skip
    """BNS of ``budget`` calls trained on ``workload``, whose exact solutions are ``target``; "psnr" is its own loss, too.

    Each of ``recipes`` has as many ``gradients`` and ``seconds``, and the best is taken.
    """
    options = {"seconds": seconds, "loss": "psnr" if loss == "own" else loss, "seed": seed}
    return training.best(lambda: untrained(workload, budget, method), recipes, train, workload, target, gradients, **options)
