"""Methods by others that are fitted on runs of the model: recorded once for a scale, on photographs it was trained on."""

import random
from dataclasses import dataclass

import torch

from taylorseer_guider.calibration.squares import ridge

from ..workloads import Workload
from . import forecasts
from .climbing import anneal, neighbours
from .solvers import standalone

HISTORY = 4
RIDGE = 1e-8
WALKS = 6


@dataclass
class Recording:
    """The full run of a training batch: the Gram matrix of its outputs, its x at the nodes, and its x at the end, in that order.

    The matrix is on the CPU. ``shifts`` say, node by node, by how much of a displacement of x the output moves along with it.
    """

    workload: Workload
    sigmas: torch.Tensor
    gram: torch.Tensor
    shifts: list
    end: torch.Tensor

    @property
    def count(self):
        return len(self.sigmas) - 1


@torch.no_grad()
def record(workload):
    """Heun's run with every visit called, and one more call a node for ``shifts``. Of two visits the later, at Heun's own x."""
    sigmas, visits = workload.sigmas(), {}

    def denoise(x, sigma):
        visits[float(sigma)] = x, workload.denoise(x, sigma)
        return visits[float(sigma)][1]

    end = standalone("HeunEDMSampler")(denoise, workload.noise, sigmas)
    points, outputs = zip(*visits.values(), strict=True)
    shifts = [_shift(workload, sigma, x, output, outputs[-1]) for (sigma, (x, output)) in visits.items()]
    flat = torch.stack([row.flatten().double() for row in (*outputs, *points, end)]) / end.numel() ** 0.5
    return Recording(workload, sigmas, (flat @ flat.T).cpu(), shifts, end)


def _shift(workload, sigma, x, output, last):
    """How much of a small displacement of ``x`` the ``output`` takes over; reuse errs along what outputs still change."""
    away = 0.2 * (last - output) if sigma > 0.01 else 0.01 * output
    moved = workload.denoise(x + away, sigma) - output
    return float((moved * away).sum() / (away * away).sum())


def l2p(recording, plan):
    """Linear weights for every skipped node, the least-squares fit on an undisturbed run (after L2P, arXiv 2604.26365).

    {node: weights of the newest ``HISTORY`` called outputs}. The paper weighs features inside the network and learns by gradient;
    here it is the guided output, and the minimum of the same error in closed form.
    """
    rows = {}
    for node in range(recording.count):
        if node not in plan:
            held = [called for called in plan if called < node][-HISTORY:][::-1]
            index = [*held, node]
            rows[node] = ridge(recording.gram[index][:, index], RIDGE).tolist()
    return rows


def budcache(recording, budget, seed=0, walks=WALKS, share=2):
    """The nodes to call for plain reuse (after BudCache, arXiv 2606.13496): annealing at a fixed budget, then hill climbing.

    Annealing replays plans on a recording, which costs no call; climbing runs ``walks`` plans on ``share`` of the crops for
    real, the evenly spaced one among them. The aim is the end of the full run. The paper's refined schedule is not part of
    this: all methods keep the host's.
    """
    known = {}

    def guess(plan):
        if plan not in known:
            known[plan] = replay(recording, plan)
        return known[plan]

    even = tuple(evenly(budget, recording.count))
    rng = random.Random(seed)
    for begin in (even, anneal(guess, even, recording.count, rng)):
        anneal(guess, begin, recording.count, rng)
    tried, few = {}, recording.workload.part(slice(share))

    def walk(plan):
        with torch.no_grad():
            end = forecasts.heun(few.denoise, few.noise, recording.sigmas, plan.__contains__, forecasts.Reuse())
        tried[plan] = -float((end - recording.end[:share]).double().square().mean().log10())

    for plan in {even, *sorted(known, key=guess)[: walks // 2]}:
        walk(plan)
    for plan in neighbours(tried, recording.count, walks, guess, seed):
        walk(plan)
    return max(tried, key=tried.get)


def replay(recording, plan):
    """Mean square distance to the end of the full run that plain reuse on ``plan`` would leave, by the recording."""
    unit, count = torch.eye(len(recording.gram), dtype=recording.gram.dtype), recording.count
    where = {float(sigma): node for node, sigma in enumerate(recording.sigmas)}

    def denoise(x, sigma):
        node = where[float(sigma)]
        return unit[node] + recording.shifts[node] * (x - unit[count + node])

    begin = unit[count] / (1 + recording.sigmas[0].double() ** 2).sqrt()
    x = forecasts.heun(denoise, begin, recording.sigmas.double(), plan.__contains__, forecasts.Reuse())
    miss = x - unit[-1]
    return max(float(miss @ recording.gram @ miss), 1e-30)


def evenly(budget, count):
    """``budget`` of ``count`` nodes, evenly spaced from the first."""
    return [round(i * count / budget) for i in range(budget)]
