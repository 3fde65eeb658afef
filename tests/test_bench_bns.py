"""BNS as a peer: exact calls, Euler's and the midpoint method before its training, and runs that end nearer after it."""

import pytest
import torch

from bench.peers import bns
from bench.peers.training import Recipe
from bench.workloads import mixture

QUICK = (Recipe("adam", 0.005),)


@pytest.fixture(scope="module")
def workload():
    return mixture.training(2.5, 4)


def ended(fitted, workload):
    return bns.solve(fitted)(workload.denoise, workload.noise, workload.sigmas())


def velocity(workload, x, t):
    """Along the straight path, from the denoiser: (data - x) / (1 - t) at x / t, whose sigma is (1 - t) / t."""
    return (workload.denoise(x / t, torch.tensor((1 - t) / t)) - x) / (1 - t)


@torch.no_grad()
def by_the_book(workload, budget, method):
    """Euler's or the midpoint method in t = 1 / (1 + sigma)."""
    sigma = float(workload.sigmas()[0])
    t, x = 1 / (1 + sigma), workload.noise * (1 + sigma**2) ** 0.5 / (1 + sigma)
    steps = budget if method == "euler" else budget // 2
    h = (1 - t) / steps
    for _ in range(steps):
        slope = velocity(workload, x, t)
        x, t = x + h * (slope if method == "euler" else velocity(workload, x + h / 2 * slope, t + h / 2)), t + h
    return x


@pytest.mark.parametrize(("method", "budget"), [("euler", 5), ("euler", 6), ("midpoint", 6), ("midpoint", 8)])
def test_an_untrained_bns_is_the_solver_it_begins_as_in_as_many_calls(workload, method, budget):
    workload = workload.part(slice(None))
    end = ended(bns.untrained(workload, budget, method), workload)
    assert workload.calls == budget
    assert torch.allclose(end, by_the_book(workload, budget, method), atol=1e-4)


def test_training_bns_brings_its_runs_nearer(workload):
    target = ended(bns.untrained(workload, 40, "midpoint"), workload)
    fitted = bns.fit(workload, 4, 10, target=target, recipes=QUICK)
    before, after = (ended(solver, workload) - target for solver in (bns.untrained(workload, 4), fitted))
    assert fitted.about["after"] < fitted.about["before"]
    assert float(after.square().mean()) < float(before.square().mean())


def test_a_saved_bns_is_the_same_when_loaded_and_is_no_gs(workload, tmp_path):
    from bench.peers import gs

    fitted = bns.untrained(workload, 4)
    fitted.save(tmp_path / "bns.safetensors")
    assert torch.equal(ended(bns.BNS.load(tmp_path / "bns.safetensors"), workload), ended(fitted, workload))
    with pytest.raises(ValueError, match="holds a BNS, not a GS"):
        gs.GS.load(tmp_path / "bns.safetensors")


def test_the_midpoint_method_needs_two_calls_a_step(workload):
    with pytest.raises(ValueError, match="budget=5: the midpoint method takes two calls a step"):
        bns.untrained(workload, 5, "midpoint")
