"""Refining a calibration: the gradient is right, held-out runs end nearer, and what cannot be refined says so."""

from dataclasses import replace

import pytest
import torch

from problems import EXACT, VANILLA, GaussianMixture, decibels, runs, sample, sampler
from taylorseer_guider import calibrate
from taylorseer_guider.calibration import solver
from taylorseer_guider.calibration.budgets import alone
from taylorseer_guider.calibration.host import Probe
from taylorseer_guider.calibration.journal import Journal
from taylorseer_guider.calibration.ode import Reference
from taylorseer_guider.calibration.problem import Problem
from taylorseer_guider.calibration.refine import Refinement
from taylorseer_guider.calibration.solver import Solver
from taylorseer_guider.plan import evenly

SCALE, CALLS = 2.0, 5
QUICK = {"calls": CALLS, "substeps": 2, "progress": False}


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixture((4,))


def problem_of(mixture, low=False, scales=(SCALE,)):
    """What is fitted, with the end of a fine run as what is aimed at."""
    built, probes, references = sampler("HeunEDMSampler", scale=SCALE), [], []
    for n, run in enumerate(runs(mixture, 2, 6)):
        for scale in scales:
            probe = Probe(built, mixture, run, n, scale)
            end, _ = sample(
                "HeunEDMSampler", mixture, inputs=mixture.inputs(6, seed=n), num_steps=40, scale=scale,
                guider_config={"target": VANILLA}, **EXACT,
            )  # fmt: skip
            probes.append(probe)
            references.append(Reference([end], probe.denoise(probe.x, probe.sigmas[0], 2)))
    sigmas = probes[0].sigmas
    return Problem(probes, references, 2, 5, low, 2.0, alone(sigmas, 5), (min(scales), max(scales))[: len(scales)], sigmas)


def begun(problem):
    sigmas = list(evenly(problem.sigmas[:-1], CALLS).values())
    return Solver.by_theory(problem, sigmas)


@pytest.mark.parametrize("kept", [0, 1 << 16])
@pytest.mark.parametrize(("low", "scales"), [(True, (SCALE,)), (False, (1.5, 3.0))])
def test_the_gradient_is_that_of_where_runs_end(low, scales, kept, monkeypatch):
    monkeypatch.setattr(solver, "KEPT", kept)
    problem = problem_of(GaussianMixture((3, 8, 8), components=4), low, scales)
    refinement = Refinement(problem, begun(problem), Journal(None, {}, {}))
    move = torch.randn(refinement.best.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 20
    at = move.clone().requires_grad_()
    refinement._descend(at)
    way, gradient = torch.randn(move.shape, generator=torch.Generator().manual_seed(0), dtype=move.dtype), at.grad.clone()
    ahead, behind = (refinement._descend((move + sign * 1e-5 * way).requires_grad_())[0] for sign in (1, -1))
    assert float(ahead - behind) / 2e-5 == pytest.approx(float(gradient @ way), rel=2e-3)


def test_a_refinement_begins_as_calls_alone(mixture):
    problem = problem_of(mixture)
    refinement = Refinement(problem, begun(problem), Journal(None, {}, {}))
    for n, run in enumerate(runs(mixture, 2, 6)):
        theirs, _ = sample("HeunEDMSampler", mixture, inputs=tuple(run.values()), scale=SCALE, calls=CALLS)
        assert torch.allclose(refinement.at(refinement.best).ended(problem, n), theirs, atol=1e-6)


def test_sigmas_fall_between_the_hosts_however_far_they_are_moved(mixture):
    problem = problem_of(mixture)
    refinement = Refinement(problem, begun(problem), Journal(None, {}, {}))
    draw = torch.randn(refinement.best.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="two calls have met"):
        refinement.at(50 * draw)
    for size in (0.5, 1, 3):
        move = size * draw
        sigmas = refinement.at(move).sigmas.tolist()
        assert sigmas == sorted(sigmas, reverse=True)
        assert sigmas[0] == problem.sigmas[0] and sigmas[-1] >= problem.sigmas[-2] * 0.999


class LookedUp(GaussianMixture):
    """Knows sigma by a table, as sgm's DiscreteDenoiser does: no gradient goes to it."""

    table = torch.logspace(-3, 2, 2000, dtype=torch.float64)

    def __call__(self, x, sigma, cond):
        nearest = (self.table.log() - sigma[:1].detach().log()).abs().argmin()
        return super().__call__(x, self.table[nearest].expand(len(x)).to(x), cond)


def test_where_sigma_is_looked_up_the_gradient_by_it_is_a_difference(mixture):
    found = []
    for asked, looked_up in ((mixture, False), (LookedUp((4,)), True), (LookedUp((4,)), False)):
        problem = replace(problem_of(asked), looked_up=looked_up)
        refinement = Refinement(problem, begun(problem), Journal(None, {}, {}))
        move = torch.zeros_like(refinement.best).requires_grad_()
        refinement._descend(move)
        found.append(move.grad[: refinement.free])
    exact, difference, neglected = found
    off = lambda gradient: float((gradient - exact).norm() / exact.norm())  # noqa: E731
    assert off(difference) < 0.3 and off(neglected) > 2 * off(difference), [off(each) for each in found]


def test_a_denoiser_that_looks_sigma_up_is_noticed(mixture):
    for asked, follows in ((mixture, True), (LookedUp((4,)), False)):
        probe = Probe(sampler("EulerEDMSampler", scale=SCALE), asked, runs(mixture, 1, 3)[0], 0)
        assert probe.opening(True)[2] is follows


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler"])
@pytest.mark.slow
def test_refined_runs_end_nearer_on_held_out_draws(name, mixture, tmp_path):
    inputs = mixture.inputs(400, seed=99)
    exact, _ = sample("HeunEDMSampler", mixture, inputs=inputs, num_steps=150, scale=SCALE, **EXACT)
    reached = [decibels(sample(name, mixture, inputs=inputs, scale=SCALE, calls=CALLS)[0], exact)]
    for times in (0, 10):
        calibration = calibrate(sampler(name, scale=SCALE), mixture, runs(mixture), refine=times, **QUICK)
        calibration.save(tmp_path / "c.yaml")
        ours, _ = sample(name, mixture, inputs=inputs, scale=SCALE, calibration=str(tmp_path / "c.yaml"))
        reached.append(decibels(ours, exact))
        assert calibration.about["refined"] == times
    alone, landed, refined = reached
    assert landed > alone + 2 and refined > alone + 5


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
    plain = calibrate(built, mixture, given, **{**options, "refine": 0, "folder": None})
    before, most = mixture.calls, mixture.calls + 60
    with pytest.raises(Interrupted):
        calibrate(built, failing, given, **options)
    spent, before, most = mixture.calls - before, mixture.calls, 1 << 40
    resumed = calibrate(built, failing, given, **options)
    kept = torch.load(next(tmp_path.glob("refined-*.pt")), weights_only=True)
    assert kept["spent"] == 8 and mixture.calls - before < spent + 8 * 8
    assert resumed.budgets[5].db > plain.budgets[5].db


@pytest.mark.parametrize("every", [20, 30])
def test_a_calibration_that_is_interrupted_again_and_again_is_the_same(mixture, tmp_path, every):
    """And takes no gradient twice: L-BFGS goes on with what it remembered."""

    def failing(x, sigma, cond):
        nonlocal left
        left -= x.requires_grad
        if left < 0:
            raise KeyboardInterrupt
        return mixture(x, sigma, cond)

    options = {**QUICK, "refine": 8}
    built, given, stops, found = sampler("EulerEDMSampler", scale=SCALE), runs(mixture, 2, 20), 0, None
    plain = calibrate(built, mixture, given, **options)
    while found is None and stops < 30:
        left = every
        try:
            found = calibrate(built, failing, given, **options, folder=tmp_path)
        except KeyboardInterrupt:
            stops += 1
    assert stops > 1 and found.budgets == plain.budgets
    kept = torch.load(next(tmp_path.glob("refined-*.pt")), weights_only=True)
    assert kept["spent"] == 8 == len(kept["told"])


def test_a_gradient_that_overflowed_is_not_taken_for_the_next_one(mixture, tmp_path):
    """When it is begun again: that one is of another move."""
    asked, bad = [], None

    def overflowing(x, sigma, cond):
        output = mixture(x, sigma, cond)
        if x.requires_grad or sigma.requires_grad:
            asked.append(float(sigma[0].detach()))
            output = output * torch.nan if asked[-1] == bad else output
        return output

    options = {**QUICK, "refine": 8}
    built, given = sampler("EulerEDMSampler", scale=SCALE), runs(mixture, 1, 20)
    calibrate(built, overflowing, given, **options)
    bad = asked[2 * (len(asked) // 8) + 1]
    plain, first, again = (calibrate(built, overflowing, given, **options, folder=each) for each in (None, tmp_path, tmp_path))
    assert plain.budgets == first.budgets == again.budgets


def test_recordings_of_earlier_versions_are_gone_on_from_and_may_be_interrupted_again(mixture, tmp_path):
    built, given = sampler("EulerEDMSampler", scale=SCALE), runs(mixture, 2, 20)
    options = {**QUICK, "folder": tmp_path}
    before = calibrate(built, mixture, given, **options, refine=5)
    (path,) = tmp_path.glob("refined-*.pt")
    kept = torch.load(path, weights_only=True)
    torch.save({name: kept[name] for name in ("move", "spent", "least")}, path)
    calibrate(built, mixture, given, **options, refine=6)
    kept = torch.load(path, weights_only=True)
    assert kept["spent"] == 6 and len(kept["told"]) < 6
    assert calibrate(built, mixture, given, **options, refine=8).budgets[CALLS].db >= before.budgets[CALLS].db - 0.01


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
