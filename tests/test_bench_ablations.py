"""GS's ideas one at a time on our own nodes and weights: each begins where the calibration ends, and moves only its own."""

from functools import cache

import pytest
import torch

from bench.peers import ablations
from bench.peers.ablations import fit_ablation, sample
from bench.peers.training import Recipe
from bench.workloads import mixture
from taylorseer_guider import calibrate
from taylorseer_guider.standalone.config import instantiate_from_config

QUICK = Recipe("adam", 1e-3)
CALLS = 5


def sampler(scale, steps=20, **options):
    guider = {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"scale": scale, **options}}
    edm = {"target": "taylorseer_guider.standalone.discretization.EDMDiscretization", "params": mixture.training(1, 1).edm}
    params = {"num_steps": steps, "discretization_config": edm, "guider_config": guider}
    return instantiate_from_config({"target": "taylorseer_guider.standalone.sampling.HeunEDMSampler", "params": params})


def ended(workload, **options):
    return sampler(workload.scale, **options)(workload.network, workload.noise, workload.cond, workload.uc)


@cache
def calibrated(scale, low):
    """(workload, the end of a fine run, a calibration on it)."""
    workload = mixture.training(scale, 4)
    runs = [{"x": workload.noise, "cond": workload.cond, "uc": workload.uc}]
    options = {"calls": CALLS, "low": low, "walks": 2, "refine": 0, "substeps": 2, "progress": False}
    target = ended(workload, steps=40, interval=1, repeat_visits="compute")
    return workload, target, calibrate(sampler(scale), workload.network, runs, **options)


def miss(x, target):
    return float((x - target).square().flatten(1).mean(1).log().mean())


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "low"), [(2.5, True), (2.5, False), (1.0, False)])
def test_with_nothing_moved_it_ends_where_the_calibrated_guider_does(scale, low, tmp_path):
    workload, target, calibration = calibrated(scale, low)
    calibration.save(tmp_path / "calibration.yaml")
    fresh = workload.part(slice(None))
    end = sample(fit_ablation(calibration, CALLS, workload, "none", 0, target), fresh)
    assert fresh.calls == CALLS
    assert torch.allclose(end, ended(workload, calibration=str(tmp_path / "calibration.yaml")), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["steps", "told"])
def test_training_moves_its_own_alone_and_brings_the_runs_nearer(kind):
    workload, target, calibration = calibrated(2.5, True)
    before, after = (fit_ablation(calibration, CALLS, workload, k, 4, target, recipe=QUICK) for k in ("none", kind))
    assert {name for name in before.tensors if not torch.equal(before.tensors[name], after.tensors[name])} == {kind}
    assert miss(sample(after, workload), target) < miss(sample(before, workload), target)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["weights", "theory"])
def test_refined_weights_bring_the_runs_nearer(kind):
    workload, target, calibration = calibrated(2.5, True)
    reached = [
        miss(sample(fit_ablation(calibration, CALLS, workload, kind, count, target), workload), target) for count in (0, 4)
    ]
    assert reached[1] < reached[0]


@pytest.mark.slow
def test_weights_that_are_pulled_all_the_way_are_those_of_the_guider_without_a_calibration(monkeypatch):
    workload, target, calibration = calibrated(2.5, True)
    monkeypatch.setattr(ablations, "STRENGTHS", (1e12,))
    fitted = fit_ablation(calibration, CALLS, workload, "theory", 0, target)
    nodes = list(calibration.budgets[CALLS].nodes)
    theirs = ended(workload, plan={"nodes": nodes}, forecast={"quantity": "denoised", "coordinate": "rho"})
    assert torch.allclose(sample(fitted, workload), theirs, atol=1e-3)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind='time': choose one of none, weights, steps, told, theory"):
        fit_ablation(None, CALLS, None, "time", 0, None)
