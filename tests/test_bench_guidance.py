"""Cheaper guidance: nothing changes where nothing is saved, branches are what is claimed, and each estimate is what it says."""

import pytest
import torch

from bench.peers import branches, guidance, solvers
from bench.workloads import FULL_CALLS, NODES, mixture

HEUN, DPMPP = solvers.standalone("HeunEDMSampler"), solvers.standalone("DPMPP2MSampler")
BUDGETS = (10, 12, 16, 20, 26, 40)


@pytest.fixture
def workload():
    return mixture.held_out(2.5, 2)


@pytest.fixture(scope="module")
def rows():
    with torch.no_grad():
        return branches.methods(BUDGETS, mixture.training(2.5, 4))


def run(workload, solve, denoise, steps=NODES):
    workload.branches = 0
    return solve(denoise, workload.noise, workload.sigmas(steps)), workload.branches


@pytest.mark.parametrize(("solve", "visits"), [(HEUN, FULL_CALLS), (DPMPP, NODES)])
def test_nothing_changes_where_every_visit_calls_both(solve, visits, workload):
    plain, cost = run(workload, solve, workload.denoise)
    for cheap in (
        guidance.Guided(workload),
        guidance.FasterCache(workload, visits, range(visits)),
        guidance.AdaptiveGuidance(workload, 2.0),
        guidance.LinearAG(workload, {}),
    ):
        x, branches_called = run(workload, solve, cheap)
        assert torch.equal(x, plain) and branches_called == cost == 2 * visits


def test_a_scale_of_one_has_nothing_to_save():
    with pytest.raises(ValueError, match="scale is 1"):
        guidance.FasterCache(mixture.held_out(1.0, 1), 20, [0])


@pytest.mark.parametrize("visits_of", [branches.faster_cache, branches.linear_ag])
@pytest.mark.parametrize("budget", [*BUDGETS, 7, 33])
def test_a_pattern_costs_its_budget_and_begins_with_both(visits_of, budget):
    visits, called = branches.pattern(visits_of, budget)
    assert visits + len(called) == budget
    assert called[0] == 0 and max(called) < visits and len(set(called)) == len(called) < visits


@pytest.mark.slow
def test_rows_cost_what_they_aim_at(rows, workload):
    """Adaptive Guidance decides itself: its number is that of the training pictures."""
    assert {aim for _, aim, _ in rows} >= set(BUDGETS)
    for label, aim, sample in rows:
        workload.branches = 0
        with torch.no_grad():
            assert sample(workload).isfinite().all()
        assert workload.branches == pytest.approx(aim, abs=2 if label.startswith("Adaptive") else 0)


@pytest.mark.slow
def test_rows_on_heun_save_branches_of_the_full_run(rows):
    aims = {label: aim for label, aim, _ in rows if label.endswith("Heun")}
    assert len(aims) == 4 and all(FULL_CALLS < aim < 2 * FULL_CALLS for aim in aims.values())


def test_fastercache_without_growth_adds_the_last_difference_of_eps(workload):
    cheap, sigmas = guidance.FasterCache(workload, 20, [0], growth=1.0), workload.sigmas()
    x = solvers.start(workload.noise, sigmas)
    cheap(x, sigmas[0])
    first, second = sigmas[0], sigmas[1]
    difference = (workload.branch(x, first, "uc") - workload.branch(x, first, "cond")) / first
    cond = workload.branch(x, second, "cond")
    assert torch.allclose(cheap(x, second), cond + (1 - 2.5) * second * difference, atol=1e-4)


@pytest.mark.slow  # the import
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("size", [(16, 16), (15, 20)])
def test_fastercache_splits_by_frequency_as_diffusers_does(size):
    hooks = pytest.importorskip("diffusers.hooks.faster_cache")
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(guidance._split(image), hooks._split_low_high_freq(image), strict=True):
        assert torch.allclose(ours, torch.fft.ifft2(torch.fft.ifftshift(theirs)).real, atol=1e-5)


def test_fastercache_grows_each_band_at_its_time(workload):
    """Of 20 visits, at time steps 1000, 950 .. 50, the low band grows at 900 to 100 and the high one from 300 on."""
    cheap, sigma = guidance.FasterCache(workload, 20, [0]), torch.tensor(1.0)
    cheap(workload.noise, sigma)
    low, high = cheap.low.clone(), cheap.high.clone()
    for visit in range(1, 20):
        cheap(workload.noise, sigma)
        grown = min(max(visit - 1, 0), 17), max(visit - 13, 0)
        assert torch.allclose(cheap.low, low * 1.1 ** grown[0], rtol=1e-4)
        assert torch.allclose(cheap.high, high * 1.1 ** grown[1], rtol=1e-4)


def test_adaptive_guidance_stops_picture_by_picture(workload):
    cosines = torch.stack(_cosines(workload))
    cut = float(cosines[3:].amax(0).min())
    expected = (cosines.cummax(0).values < cut).sum(0) + 1
    _, cost = run(workload, DPMPP, guidance.AdaptiveGuidance(workload, cut), 12)
    assert cost == 12 + float(expected.clamp(max=12).float().mean())
    only_once, cost = run(workload, DPMPP, guidance.AdaptiveGuidance(workload, -2.0), 12)
    assert cost == 13 and only_once.isfinite().all()


def _cosines(workload):
    seen = guidance.AdaptiveGuidance(workload, 2.0)
    run(workload, DPMPP, seen, 12)
    return seen.cosines


def test_linear_ag_is_exact_where_the_unconditional_eps_is_linear_in_the_conditional_one(workload):
    """Both branches the same network output but for a factor."""
    denoiser = workload.denoiser

    def scaled(x, sigma, cond):
        longer = 1 + cond["vector"].any(1).to(x.dtype)[:, None, None, None]
        return x - 0.5 * longer * (x - denoiser(x, sigma, {"vector": 0 * cond["vector"]}))

    workload.denoiser = scaled
    rows = guidance.fit(workload, DPMPP, workload.sigmas(8), [0])
    cheap, cost = run(workload, DPMPP, guidance.LinearAG(workload, rows), 8)
    full, _ = run(workload, DPMPP, workload.denoise, 8)
    assert cost == 9 and (cheap - full).norm() < 1e-4 * full.norm()


def test_linear_ag_fits_its_training_run_better_than_no_guidance():
    training = mixture.training(2.5, 4)
    with torch.no_grad():
        full, _ = run(training, DPMPP, training.denoise, 12)
        visits = branches.linear_ag(12)
        cheap, _ = run(
            training, DPMPP, guidance.LinearAG(training, guidance.fit(training, DPMPP, training.sigmas(12), visits)), 12
        )
        dropped, _ = run(training, DPMPP, guidance.AdaptiveGuidance(training, -2.0), 12)
    assert (cheap - full).norm() < 0.1 * (dropped - full).norm()
