"""What a calibration moves, one thing at a time: each begins as `calls` alone, moves only its own, and ends nearer."""

from functools import cache

import pytest
import torch

from bench.methods import reference
from bench.peers.ablations import KINDS, Part, Told, fit_ablation, posed, sample
from bench.workloads import host, mixture
from taylorseer_guider.calibration.journal import Journal

CALLS = 5


@cache
def training(scale=2.5):
    """(workload, its exact solutions)."""
    workload = mixture.training(scale, 4)
    return workload, reference(workload, steps=40)


def fitted(kind, gradients=4):
    workload, target = training()
    return fit_ablation(workload, CALLS, kind, gradients, target)


def miss(solver):
    workload, target = training()
    return float((sample(solver, workload) - target).square().flatten(1).mean(1).log().mean())


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_with_nothing_moved_it_ends_where_calls_alone_do(scale):
    workload, target = training(scale)
    for kind in ("none", "sigmas", "told"):
        fresh = workload.part(slice(None))
        end = sample(fit_ablation(workload, CALLS, kind, 0, target), fresh)
        assert fresh.calls == CALLS
        assert torch.allclose(end, host(workload, options={"calls": CALLS})(), atol=1e-4)


@pytest.mark.slow
def test_each_moves_its_own_alone_and_brings_the_runs_nearer():
    begun, found = fitted("none"), {kind: fitted(kind) for kind in KINDS[2:]}
    moved = {kind for kind, solver in found.items() if not torch.allclose(solver.sigmas, begun.sigmas, rtol=1e-9)}
    told = {kind for kind, solver in found.items() if solver.apart.any()}
    assert (moved, told) == ({"sigmas", "both", "told"}, {"told"})
    problem = posed(*training())
    rows = problem.rows((*found["sigmas"].sigmas.tolist(), 0.0), range(CALLS))
    assert all(torch.allclose(*pair, atol=1e-9) for pair in zip(rows, found["sigmas"].rows, strict=True))  # theory's
    assert all(miss(solver) < miss(begun) for solver in (fitted("landed"), *found.values()))


def test_a_gradient_goes_to_what_is_told_at_each_call():
    problem, begun = posed(*training()), fitted("none")
    part = Part("told", problem, begun, Journal(None, {}, {}))
    at = torch.zeros_like(part.best).requires_grad_()
    part._descend(at)
    for call in range(1, CALLS + 1):
        ends = []
        for sign in (1, -1):
            apart = torch.zeros(CALLS, dtype=torch.float64)
            apart[-call] = sign * 1e-2
            with torch.no_grad():
                ends.append(problem.missed(Told(begun.sigmas, begun.rows, apart).ended(problem, 0), 0).mean())
        slope = float(ends[0] - ends[1]) / 2e-2 * float(part.units[-call])
        assert float(at.grad[-call]) == pytest.approx(slope, rel=0.05, abs=1e-3)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind='time': choose one of none, landed, sigmas, weights, both, told"):
        fit_ablation(None, CALLS, "time", 0, None)
