"""Refining a calibration: the gradient is right, held-out runs end nearer, and what cannot be refined says so."""

from functools import partial

import pytest
import torch

from problems import EXACT, GaussianMixture, decibels, runs, sample, sampler
from taylorseer_guider import calibrate
from taylorseer_guider.calibration import refine
from taylorseer_guider.calibration.host import Probe
from taylorseer_guider.calibration.journal import Journal
from taylorseer_guider.calibration.ode import Reference
from taylorseer_guider.calibration.problem import Problem
from taylorseer_guider.calibration.refine import Refinement
from taylorseer_guider.calibration.theory import Theory
from taylorseer_guider.calibration.walk import fit

SCALE, NODES = 2.0, (0, 6, 9, 12, 15)
QUICK = {"calls": 5, "substeps": 2, "walks": 2, "progress": False}


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixture((4,))


def problem_of(name, mixture, low):
    """What is fitted, with the end of a fine run as the reference at every node: any target does for a gradient."""
    built = sampler(name, scale=SCALE)
    probes = [Probe(built, mixture, run, n) for n, run in enumerate(runs(mixture, 2, 6))]
    references = []
    for n, probe in enumerate(probes):
        end, _ = sample("HeunEDMSampler", mixture, inputs=mixture.inputs(6, seed=n), num_steps=40, scale=SCALE, **EXACT)
        references.append(Reference([end] * len(probe.sigmas), probe.denoise(probe.x, probe.sigmas[0], 2), None, None))
    theory = partial(Theory.unaided, built, probes[0].sigmas, SCALE, 4)
    return Problem(probes, references, name[:-10].lower(), 2, 4, low, 2.0, theory, (SCALE,))


@pytest.mark.parametrize("kept", [0, 1 << 16])
@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
def test_the_gradient_is_that_of_the_runs_that_fit_walks(name, kept, monkeypatch):
    monkeypatch.setattr(refine, "KEPT", kept)
    problem = problem_of(name, GaussianMixture((3, 8, 8), components=4), low=True)
    solved = fit(problem, NODES)
    refinement = Refinement(problem, solved, Journal(None, {}, {}))
    move = torch.zeros_like(refinement.best).requires_grad_()
    loss, _ = refinement._descend(move)
    assert float(problem.decibels(loss.exp())) == pytest.approx(solved.budget.db, rel=1e-4)
    way, gradient = torch.randn(move.shape, generator=torch.Generator().manual_seed(0), dtype=move.dtype), move.grad.clone()
    ahead, behind = (refinement._descend((sign * 1e-5 * way).requires_grad_())[0] for sign in (1, -1))
    assert float(ahead - behind) / 2e-5 == pytest.approx(float(gradient @ way), rel=1e-3)


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
@pytest.mark.slow
def test_refined_runs_end_nearer_on_held_out_draws(name, mixture, tmp_path):
    inputs = mixture.inputs(400, seed=99)
    exact, _ = sample("HeunEDMSampler", mixture, inputs=inputs, num_steps=150, scale=SCALE, **EXACT)
    reached = {}
    for times in (0, 10):
        calibration = calibrate(sampler(name, scale=SCALE), mixture, runs(mixture), refine=times, **QUICK)
        calibration.save(tmp_path / "c.yaml")
        ours, _ = sample(name, mixture, inputs=inputs, scale=SCALE, calibration=str(tmp_path / "c.yaml"))
        reached[times] = calibration.budgets[5].db, decibels(ours, exact)
    assert calibration.about["refined"] == 10
    assert all(after > before + 2 for before, after in zip(*reached.values(), strict=True))


@pytest.mark.slow
def test_an_interrupted_refinement_goes_on(mixture, tmp_path):
    class Interrupted(Exception):
        pass

    def failing(x, sigma, cond):
        if x.requires_grad and mixture.calls > most:
            raise Interrupted
        return mixture(x, sigma, cond)

    options = {**QUICK, "folder": tmp_path, "refine": 8}
    built, given = sampler("EulerEDMSampler", scale=SCALE), runs(mixture, 2, 20)
    plain = calibrate(built, mixture, given, **{**options, "refine": 0})
    before, most = mixture.calls, mixture.calls + 60
    with pytest.raises(Interrupted):
        calibrate(built, failing, given, **options)
    spent, before, most = mixture.calls - before, mixture.calls, 1 << 40
    resumed = calibrate(built, failing, given, **options)
    kept = torch.load(next(tmp_path.glob("refined-*.pt")), weights_only=True)
    assert kept["spent"] == 8 and mixture.calls - before < spent + 8 * 8
    assert resumed.budgets[5].db > plain.budgets[5].db


def test_a_denoiser_without_gradients_is_refused_with_the_remedy(mixture):
    before = mixture.calls
    with pytest.raises(ValueError, match="lets no gradient through.*refine=0"):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), torch.no_grad()(mixture.__call__), runs(mixture), refine=2, **QUICK)
    assert mixture.calls == before + 1


def test_inference_mode_is_refused_before_anything_is_computed(mixture):
    before = mixture.calls
    with torch.inference_mode(), pytest.raises(ValueError, match="refine=2: torch.inference_mode.*refine=0"):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), mixture, runs(mixture), refine=2, **QUICK)
    assert mixture.calls == before


@pytest.mark.parametrize("grad", [torch.no_grad, torch.enable_grad])
def test_a_model_keeps_its_own_gradients_to_itself(grad):
    class Network(GaussianMixture):
        gain = torch.ones((), dtype=torch.float64, requires_grad=True)

        def __call__(self, x, sigma, cond):
            return super().__call__(x, sigma, cond) * self.gain

    network = Network((4,))
    with grad():
        calibrate(sampler("EulerEDMSampler", scale=SCALE), network, runs(network, 1, 10), refine=2, **QUICK)
    assert network.gain.grad is None


@pytest.mark.parametrize("times", [-1, 1.5, True])
def test_a_wrong_number_of_gradients_is_refused(mixture, times):
    with pytest.raises(ValueError, match="refine=.*whole number from 0"):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), mixture, runs(mixture), refine=times, **QUICK)
