"""How GS and BNS, and what is tried on our own nodes, are trained: the losses and the loop.

One gradient is one step of an optimizer: whole runs of a batch, and back through all of their calls.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from time import perf_counter

import torch
from torch.utils.checkpoint import checkpoint

from taylorseer_guider.calibration.solver import KEPT

PART = 8  # pictures of a batch that are sampled at a time, so that memory does not grow with the batch
MEMORY = 40  # moves that L-BFGS remembers, as in our own refinement


@dataclass(frozen=True)
class Recipe:
    """How it is trained. ``batch`` None: all pictures for every gradient. ``average``: decay of a mean over parameters."""

    optimizer: str = "lbfgs"  # or "adam"
    rate: float = 1.0
    fall: bool = False  # of the rate, along a cosine to nothing at the last gradient; Adam only
    batch: int | None = None
    average: float | None = None
    clip: float | None = None


OURS = Recipe()  # the optimizer of our own refinement: L-BFGS with strong Wolfe conditions
TRIED = (OURS, *(Recipe("adam", rate, fall=True) for rate in (0.02, 0.005)))  # of which each peer gets the best


def train(trained, names, workload, target, gradients, seconds=None, loss="psnr", recipe=OURS, seed=0):
    """Move the tensors of the groups ``names`` until runs of ``workload`` end nearer to ``target`` (N, ...). Returns ``trained``.

    It ends after ``gradients`` or, if that is sooner, after ``seconds``. Where every gradient is of all pictures, the best
    parameters met are kept; else, the last ones or their mean.
    """
    if unknown := set(names) - trained.groups.keys():
        raise ValueError(f"train={sorted(unknown)}: give some of {', '.join(trained.groups)}")
    if target is None:
        raise ValueError("target=None: give the exact solutions x (N, ...) of the workload, those of a fine run")
    free = [trained.tensors[tensor].requires_grad_() for name in names for tensor in trained.groups[name]]
    job = _Job(trained, free, workload, target, LOSSES[loss], gradients, seconds, recipe, seed)
    with suppress(StopIteration, FloatingPointError):  # out of gradients or time; or a step so large that the run overflows
        (job.by_adam if recipe.optimizer == "adam" else job.by_lbfgs)()
    job.finish()
    trained.about |= {"loss": loss, "train": " ".join(names), "optimizer": f"{recipe.optimizer} {recipe.rate:g}", **job.spent()}
    return trained


def best(begun, recipes, *arguments, **options):
    """``train`` with each of ``recipes`` from what ``begun()`` gives: the one whose runs end nearest, at the cost of all."""
    found = [train(begun(), *arguments, recipe=recipe, **options) for recipe in recipes]
    spent = {name: sum(each.about[name] for each in found) for name in ("calls", "seconds")}
    nearest = min(found, key=lambda each: each.about.get("after", math.inf))
    nearest.about |= {**spent, "tried": len(found)}
    return nearest


class _Job:
    """One training: what it has spent, and the best that it has met."""

    def __init__(self, trained, free, workload, target, loss, gradients, seconds, recipe, seed):
        self.trained, self.free, self.workload, self.target, self.loss = trained, free, workload, target, loss
        self.left, self.seconds, self.recipe, self.started = gradients, seconds, recipe, perf_counter()
        self.rng = torch.Generator().manual_seed(seed)
        self.losses, self.calls, self.kept, self.means = [], 0, None, None

    def gradient(self):
        """The loss of a batch, whose gradient becomes that of the free tensors. StopIteration where nothing is left."""
        late = self.seconds is not None and perf_counter() - self.started > self.seconds
        if len(self.losses) >= self.left or late:
            raise StopIteration
        chosen, total = self._batch(), 0.0
        for tensor in self.free:
            tensor.grad = torch.zeros_like(tensor)
        for part in chosen.split(PART):
            loss = self.loss(self._end(part), self.target[part]).sum() / len(chosen)
            for tensor, grad in zip(self.free, torch.autograd.grad(loss, self.free, allow_unused=True), strict=True):
                tensor.grad += 0 if grad is None else grad
            total += float(loss.detach())
        if not math.isfinite(total) or not all(tensor.grad.isfinite().all() for tensor in self.free):
            raise FloatingPointError
        if total < min(self.losses, default=math.inf):
            self.kept = [tensor.detach().clone() for tensor in self.free]
        self.losses.append(total)
        return torch.tensor(total, dtype=torch.float64)

    def _batch(self):
        if self.whole:
            return torch.arange(len(self.target))
        return torch.randperm(len(self.target), generator=self.rng)[: self.recipe.batch]

    @property
    def whole(self):
        return self.recipe.batch is None or self.recipe.batch >= len(self.target)

    def _end(self, part):
        chosen = self.workload.part(part)
        ask = self.trained.asks(chosen)

        def denoise(x, sigma):
            self.calls += len(x)
            if x.numel() > KEPT and (x.requires_grad or sigma.requires_grad):
                return checkpoint(ask, x, sigma, use_reentrant=False)
            return ask(x, sigma)

        return self.trained.walk(denoise, chosen.noise)

    def by_lbfgs(self):
        options = {"max_iter": self.left, "max_eval": self.left, "history_size": MEMORY, "line_search_fn": "strong_wolfe"}
        options |= {"lr": self.recipe.rate, "tolerance_change": 0, "tolerance_grad": 0}
        while True:
            before = len(self.losses)
            torch.optim.LBFGS(self.free, **options).step(self.gradient)
            self._return()
            if len(self.losses) - before <= 1:
                break

    def by_adam(self):
        optimizer = torch.optim.Adam(self.free, lr=self.recipe.rate)
        for step in count():
            self.gradient()
            if self.recipe.fall:
                optimizer.param_groups[0]["lr"] = self.recipe.rate * (1 + math.cos(math.pi * step / self.left)) / 2
            if self.recipe.clip:
                torch.nn.utils.clip_grad_norm_(self.free, self.recipe.clip)
            optimizer.step()
            self._average()

    def _average(self):
        """A moving mean whose decay grows to its full value with the number of steps, as in the package torch_ema."""
        if self.recipe.average is None:
            return
        steps = len(self.losses)
        decay = min(self.recipe.average, (1 + steps) / (10 + steps))
        now = [tensor.detach().clone() for tensor in self.free]
        self.means = now if self.means is None else [m.lerp(n, 1 - decay) for m, n in zip(self.means, now, strict=True)]

    def _return(self):
        for tensor, kept in zip(self.free, self.kept or [], strict=False):
            tensor.data.copy_(kept)

    def finish(self):
        if self.means is not None:
            self.kept = self.means
        if self.means is not None or self.whole:
            self._return()
        for tensor in self.free:
            tensor.requires_grad_(False).grad = None

    def spent(self):
        known = {"before": self.losses[0], "after": min(self.losses) if self.whole else self.losses[-1]} if self.losses else {}
        return {"gradients": len(self.losses), "calls": self.calls, "seconds": perf_counter() - self.started, **known}


def log_squares(x, target):
    """ln of each picture's mean square error, which is its PSNR but for scale: our own loss, and that of BNS."""
    return (x - target).square().flatten(1).mean(1).clamp(min=1e-30).log()


def absolutes(x, target):
    """Mean absolute error of each picture."""
    return (x - target).abs().flatten(1).mean(1)


LOSSES = {"psnr": log_squares, "l1": absolutes}
