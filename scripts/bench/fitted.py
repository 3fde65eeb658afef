"""Methods by others that are fitted on runs of the model: recorded once for a scale, on photographs that the model was trained on."""

import random
from dataclasses import dataclass, replace

import torch

from taylorseer_guider.calibration.search import anneal, neighbours
from taylorseer_guider.calibration.solve import ridge

from . import forecasts
from .solvers import standalone
from .workloads import Workload, schedule

HISTORY = 4
RIDGE = 1e-8
WALKS = 6


@dataclass
class Recording:
    """The full run of a training batch: the Gram matrix (n + 2, n + 2) of its x at the start, its outputs, its x at the end."""

    workload: Workload
    sigmas: torch.Tensor
    gram: torch.Tensor
    end: torch.Tensor

    @property
    def count(self):
        return len(self.sigmas) - 1


@torch.no_grad()
def record(workload):
    """Heun's run with every visit called; of a node's two outputs the later one, at Heun's own x."""
    sigmas, outputs = schedule(), {}

    def denoise(x, sigma):
        outputs[float(sigma)] = output = workload.denoise(x, sigma)
        return output

    end = standalone("HeunEDMSampler")(denoise, workload.noise, sigmas)
    rows = [workload.noise * (1 + sigmas[0] ** 2).sqrt(), *outputs.values(), end]
    flat = torch.stack([row.flatten().double() for row in rows]) / end.numel() ** 0.5
    return Recording(workload, sigmas, flat @ flat.T, end)


def l2p(recording, plan):
    """Linear weights for every skipped node, the least-squares fit on an undisturbed run (after L2P, arXiv 2604.26365).

    {node: weights of the newest ``HISTORY`` called outputs}. The paper weighs features inside the network and learns by gradient;
    here it is the guided output, and the minimum of the same error in closed form.
    """
    rows = {}
    for node in range(recording.count):
        if node not in plan:
            held = [called + 1 for called in plan if called < node][-HISTORY:][::-1]
            index = [*held, node + 1]
            rows[node] = ridge(recording.gram[index][:, index], RIDGE).tolist()
    return rows


def budcache(recording, budget, seed=0, walks=WALKS, share=2):
    """The nodes to call for plain reuse (after BudCache, arXiv 2606.13496): annealing at a fixed budget, then hill climbing.

    Annealing replays plans on the recorded outputs, which costs no call; climbing runs ``walks`` plans on ``share`` of the
    crops for real. The aim is the end of the full run. Its refined schedule is not part of this: all methods keep theirs.
    """
    sigmas, known = recording.sigmas.tolist(), {}

    def guess(plan):
        if plan not in known:
            known[plan] = replay(recording.gram, sigmas, plan)
        return known[plan]

    even = tuple(evenly(budget, recording.count))
    rng = random.Random(seed)
    for begin in (even, anneal(guess, even, recording.count, rng)):
        anneal(guess, begin, recording.count, rng)
    tried, few = {}, part(recording.workload, share)

    def walk(plan):
        with torch.no_grad():
            end = forecasts.heun(few.denoise, few.noise, recording.sigmas, plan.__contains__, forecasts.Reuse())
        tried[plan] = -float((end - recording.end[:share]).double().square().mean().log10())

    for plan in sorted(known, key=guess)[: max(walks // 2, 1)]:
        walk(plan)
    for plan in neighbours(tried, recording.count, walks, guess, seed):
        walk(plan)
    return max(tried, key=tried.get)


def replay(gram, sigmas, plan):
    """Mean square distance to the end of the full run that plain reuse on ``plan`` would leave, were the outputs the recorded ones."""
    unit = torch.eye(len(gram), dtype=gram.dtype)

    class Recorded:
        def update(self, node, x, output):
            self.output = unit[node + 1]

        def predict(self, node, x):
            return self.output

    where = {sigma: node for node, sigma in enumerate(sigmas)}
    begin = unit[0] / (1 + sigmas[0] ** 2) ** 0.5
    levels = torch.tensor(sigmas, dtype=gram.dtype)
    x = forecasts.heun(lambda x, sigma: unit[where[float(sigma)] + 1], begin, levels, plan.__contains__, Recorded())
    miss = x - unit[-1]
    return max(float(miss @ gram @ miss), 1e-30)


def part(workload, count):
    """The first ``count`` of a batch."""
    first = {name: {key: value[:count] for key, value in getattr(workload, name).items()} for name in ("cond", "uc")}
    return replace(workload, noise=workload.noise[:count], **first)


def evenly(budget, count):
    """``budget`` of ``count`` nodes, evenly spaced from the first."""
    return [round(i * count / budget) for i in range(budget)]
