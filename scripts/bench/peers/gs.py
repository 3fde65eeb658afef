"""GS, the Generalized Solver (arXiv 2510.17699, ICLR 2026; followed in its code, 3145tttt/GAS): a DPM-Solver++ that is trained.

Every step weighs all past outputs and all past x. Weights are those of DPM-Solver++ of order 3 in its multistep form, plus a
learnt correction; time steps are trained, and so is a shift of the time that the network is told. What is kept of it: the
linear VP schedule fitted to the ends of EDM's, uniform time steps to begin with, the stick-breaking form of time steps
(eq. 14), order = steps, Adam at .001 on batches of 24, gradients clipped at norm 1, and the mean of parameters (.999).

Left out: the adversarial part (that would be GAS), and LPIPS, the loss of its pixel models, which needs downloaded weights. Its
``own`` loss here is the mean absolute error, which the code logs for pixels and trains on for latents.
"""

import math

import torch

from . import training
from .trained import Trained, mixed, solve
from .training import TRIED, Recipe

__all__ = ["GS", "OWN", "fit", "solve", "untrained"]

OWN = Recipe("adam", 1e-3, batch=24, average=0.999, clip=1.0)
LAST = 1e-4  # the time of a run's end, as for FFHQ
SMALLEST = math.sqrt(math.expm1(0.1 * LAST + 19.9 / 2 * LAST**2))  # sigma there, on the usual VP schedule
APART = 1e-5  # keeps time steps apart


class GS(Trained):
    """``logits`` (n - 1) of time steps, ``shift`` (n) of the time that is told, and corrections, a row a step:

    ``x`` (n, n) of past x and ``outputs`` (n, n) of what is made of past outputs, newest first.
    """

    groups = {"steps": ("logits",), "times": ("shift",), "coefficients": ("x", "outputs")}  # noqa: RUF012

    def times(self):
        """The time steps (n + 1), which fall from 1 to ``LAST``."""
        kept = torch.cumprod(self.tensors["logits"].sigmoid() * (1 - 2 * APART) + APART, 0)
        kept = torch.cat([kept.new_ones(1), kept, kept.new_zeros(1)])
        return (LAST + (1 - LAST) * (1 - kept)).flip(0)

    def walk(self, denoise, noise):
        """x stays scaled to unit variance, as VP has it; at the end, that is a factor of 1 - 5e-6."""
        schedule, times, x = Schedule(self.low, self.high), self.times(), noise
        xs, outputs = [], []
        for step in range(self.budget):
            xs.insert(0, x)
            outputs.insert(0, self._output(denoise, x, schedule, times[step], times[step] + self.tensors["shift"][step]))
            ratio, theory, made = weights(schedule, times[: step + 2])
            count = step + 1
            onto = (theory + self.tensors["outputs"][step, :count]) @ made
            back = self.tensors["x"][step, :count] + torch.cat([ratio[None], ratio.new_zeros(step)])
            x = mixed([*back, *onto], [*xs, *outputs])
        return x

    @staticmethod
    def _output(denoise, x, schedule, time, told):
        """The denoised output for ``time`` from noise as the network sees it when it is ``told`` another time."""
        told = told.clamp(min=LAST)  # sigma would be nothing at 0
        alpha, spread = schedule.at(told)
        denoised = denoise(x / alpha.to(x), (spread / alpha).to(x))
        own_alpha, own_spread = schedule.at(time)
        share = own_spread / spread
        return mixed([(1 - share) / own_alpha, share * alpha / own_alpha], [x, denoised])


class Schedule:
    """The linear VP schedule, ln(1 + sigma^2) = a t^2 / 2 + b t, with sigma ``low`` at time ``LAST`` and ``high`` at 1."""

    def __init__(self, low, high):
        first, last = math.log1p(high**2), math.log1p(low**2)
        self.slope = 2 * (last / LAST - first) / (LAST - 1)
        self.begin = first - self.slope / 2

    def grown(self, time):
        return self.slope / 2 * time**2 + self.begin * time

    def at(self, time):
        """(alpha, spread of the noise)."""
        grown = self.grown(time)
        return (-grown / 2).exp(), (-(-grown).expm1()).sqrt()

    def time(self, sigma):
        """Where sigma is ``sigma``: the inverse."""
        return ((self.begin**2 + 2 * self.slope * (sigma**2).log1p()).sqrt() - self.begin) / self.slope

    def half_log_snr(self, time):
        return -self.grown(time).expm1().log() / 2


def weights(schedule, times):
    """(weight of x, the theory's factors (n,), (n, n) what they multiply) for the step to ``times[-1]``; outputs newest first.

    DPM-Solver++ (arXiv 2211.01095) as its own code has multistep updates of order 1, 2 and, from the third step on, 3.
    """
    count, lambdas = len(times) - 1, schedule.half_log_snr(times)
    (alpha, spread), spread_before = schedule.at(times[-1]), schedule.at(times[-2])[1]
    h = lambdas[-1] - lambdas[-2]
    phi1 = (-h).expm1()
    unit = torch.eye(count, dtype=times.dtype)
    if count == 1:
        return spread / spread_before, alpha * phi1[None], -unit
    r0 = (lambdas[-2] - lambdas[-3]) / h
    slope = (unit[0] - unit[1]) / r0
    if count == 2:
        return spread / spread_before, alpha * torch.stack([phi1, phi1 / 2]), -torch.stack([unit[0], slope])
    r1 = (lambdas[-3] - lambdas[-4]) / h
    bend = (slope - (unit[1] - unit[2]) / r1) / (r0 + r1)
    phi2 = phi1 / h + 1
    theory = torch.cat([alpha * torch.stack([phi1, phi2, phi2 / h - 0.5]), times.new_zeros(count - 3)])
    return spread / spread_before, theory, torch.cat([torch.stack([-unit[0], slope + r0 * bend, -bend]), unit[3:]])


def untrained(workload, budget, spacing="time"):
    """GS before its training: DPM-Solver++ (3M) for runs of ``workload``.

    ``spacing`` "time" is the code's, even steps of time; "edm" takes the nodes that EDM's schedule has for as many steps.
    """
    sigmas, low = workload.sigmas(budget).double(), SMALLEST
    if sigmas[-2] < 2 * low:  # the last node is where a run ends: one more is needed for as many calls
        sigmas = workload.sigmas(budget + 1).double()[:-1]
    high = float(sigmas[0])
    if spacing == "edm":
        times = Schedule(low, high).time(sigmas[1:-1])
    elif spacing == "time":
        times = torch.linspace(1, LAST, budget + 1, dtype=torch.float64)[1:-1]
    else:
        raise ValueError(f"spacing={spacing!r}: choose time or edm")
    kept = 1 - (times.flip(0) - LAST) / (1 - LAST)
    parts = kept / torch.cat([kept.new_ones(1), kept])[: len(kept)]
    logits = ((parts - APART) / (1 - 2 * APART)).logit()
    zeros = lambda *shape: torch.zeros(*shape, dtype=torch.float64)  # noqa: E731
    tensors = {"logits": logits, "shift": zeros(budget), "x": zeros(budget, budget), "outputs": zeros(budget, budget)}
    return GS(budget, low, high, tensors)


def fit(workload, budget, gradients, seconds=None, loss="psnr", train=("steps", "times", "coefficients"), seed=0, target=None,
        recipes=None, spacing="time"):  # fmt: skip
    """GS of ``budget`` calls trained on ``workload``, whose exact solutions are ``target``.

    ``loss`` "psnr" is ours, "own" that of the code. Each of ``recipes`` has as many ``gradients`` and ``seconds``, and the best
    is taken. None: the code's for its own loss; for ours some that get farther in few gradients, since in 40 of them Adam at
    .001 moves nothing by more than .04.
    """
    recipes = recipes or ((OWN,) if loss == "own" else TRIED)
    options = {"seconds": seconds, "loss": "l1" if loss == "own" else loss, "seed": seed}
    return training.best(lambda: untrained(workload, budget, spacing), recipes, train, workload, target, gradients, **options)
