"""What the benchmark compares with: other people's methods converge, and cost what they say."""

import pytest
import torch

from bench import methods
from bench.peers import fitted, forecasts, solvers
from bench.workloads import mixture as mixtures

pytestmark = pytest.mark.filterwarnings("ignore:__array")  # NumPy's, about the schedulers of diffusers

SOLVERS, _ = solvers.available()
FORECASTS, _ = forecasts.available()
OWN = {"Euler", "Heun", "DPM++2M", "iPNDM4"}
SCHEDULE = mixtures.held_out(1.0, 1).sigmas()


@pytest.fixture(scope="module")
def mixture():
    return mixtures.held_out(2.0, 2)


@pytest.fixture(scope="module")
def exact(mixture):
    with torch.no_grad():
        return methods.reference(mixture, 300)


@pytest.fixture(scope="module")
def recording():
    return fitted.record(mixtures.training(2.0))


def away(x, exact):
    return ((x - exact).norm() / exact.norm()).item()


def foretold(workload, plan, forecaster):
    workload.calls = 0
    return forecasts.heun(workload.denoise, workload.noise, SCHEDULE, set(plan).__contains__, forecaster)


def test_what_needs_no_package_is_always_there():
    assert SOLVERS.keys() >= OWN
    assert "reuse" in FORECASTS and any(name.startswith("TaylorSeer 2") for name in FORECASTS)


def test_mixture_denoiser_is_the_posterior_mean():
    """Against the score: E[x0 | x] = x + sigma^2 d/dx log p(x)."""
    denoiser, sigma = mixtures.held_out(1.0, 1).denoiser, 1.5
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    lean = torch.randn(2, len(denoiser.means), generator=torch.Generator().manual_seed(2))
    variance = denoiser.spread**2 + sigma**2
    away = (x.double()[:, None] - denoiser.means.double()).square().flatten(2).sum(-1)
    (lean - 0.5 * away / variance).logsumexp(-1).sum().backward()
    found = denoiser(x.detach(), torch.full((2,), sigma), {"vector": lean})
    assert torch.allclose(found, x.detach() + sigma**2 * x.grad, atol=1e-4)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_converge_to_the_exact_solution(name, mixture, exact):
    few, many = (away(SOLVERS[name](mixture.denoise, mixture.noise, mixture.sigmas(n)), exact) for n in (20, 100))
    assert many < (0.01 if name == "Euler" else 3e-4)
    assert many < few / 3


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("nodes", [(0, 4, 9, 13, 16), range(20)])
def test_solvers_call_once_a_step(name, nodes, mixture):
    mixture.calls = 0
    x = SOLVERS[name](mixture.denoise, mixture.noise, SCHEDULE[[*nodes, 20]])
    assert mixture.calls == (2 * len(nodes) - 1 if name == "Heun" else len(nodes))
    assert x.isfinite().all()


def test_ipndm_is_that_of_diffusers(mixture):
    """Its scheduler wants v of a variance-preserving x, along a schedule that is overwritten with ours."""
    scheduler = pytest.importorskip("diffusers").IPNDMScheduler()
    scheduler.set_timesteps(20)
    scheduler.alphas = 1 / (1 + SCHEDULE**2).sqrt()
    scheduler.betas = SCHEDULE * scheduler.alphas
    scheduler.set_begin_index(0)
    x = mixture.noise
    for sigma, alpha, beta in zip(SCHEDULE[:-1], scheduler.alphas, scheduler.betas, strict=False):
        denoised = mixture.denoise(x / alpha, sigma)
        eps = (x - alpha * denoised) / beta
        x = scheduler.step(alpha * eps - beta * denoised, sigma, x).prev_sample
    assert away(solvers.ipndm4(mixture.denoise, mixture.noise, SCHEDULE), x) < 1e-4


@pytest.mark.parametrize("budget", [5, 8, 13, 20])
@pytest.mark.parametrize("name", FORECASTS)
def test_forecasts_cost_their_budget(name, budget, mixture, exact):
    x = foretold(mixture, fitted.evenly(budget, 20), FORECASTS[name]())
    assert mixture.calls == budget
    assert away(x, exact) < (5e-3 if budget == 20 else 1)


@pytest.mark.parametrize("seer", [forecasts.DiffusersTaylorSeer, forecasts.CacheDitTaylorSeer])
@pytest.mark.parametrize("order", [1, 2])
def test_own_taylorseer_is_that_of_the_packages(seer, order, mixture):
    try:
        theirs = seer(order)
    except ImportError as error:
        pytest.skip(str(error))
    plan = (0, 3, 5, 9, 14)
    assert away(foretold(mixture, plan, forecasts.TaylorSeer(order)), foretold(mixture, plan, theirs)) < 1e-5


def test_reuse_on_every_node_is_our_guider_on_every_node(mixture):
    ours = methods.host(mixture, options={"plan": {"nodes": list(range(20))}, "forecast": {"quantity": "denoised"}})()
    assert away(foretold(mixture, range(20), forecasts.Reuse()), ours) < 1e-5


def test_l2p_weights_are_the_least_squares_ones(recording):
    plan = (0, 4, 9, 15)
    rows = fitted.l2p(recording, plan)
    assert sorted(rows) == [node for node in range(20) if node not in plan]
    held, node = [9, 4, 0], 12

    def error(weights):
        signed = torch.zeros(len(recording.gram), dtype=recording.gram.dtype)
        signed[held], signed[node] = torch.tensor(weights, dtype=signed.dtype), -1
        return float(signed @ recording.gram @ signed)

    least = error(rows[node])
    for i in range(3):
        for by in (-0.01, 0.01):
            assert least < error([w + by * (i == j) for j, w in enumerate(rows[node])])


def test_l2p_runs_on_any_plan(recording, mixture):
    plan = (0, 4, 5, 9, 11, 15)
    x = foretold(mixture, plan, forecasts.Linear(fitted.l2p(recording, plan), fitted.HISTORY))
    assert mixture.calls == 6 and x.isfinite().all()


def test_replaying_a_full_plan_comes_near_the_full_run(recording):
    even, all_nodes = (fitted.replay(recording, plan) for plan in (fitted.evenly(5, 20), range(20)))
    assert all_nodes < even / 10


def test_budcache_finds_a_plan_no_worse_than_the_even_one(recording):
    plan, few = fitted.budcache(recording, 6), recording.workload.part(slice(2))
    found, even = (away(foretold(few, p, forecasts.Reuse()), recording.end[:2]) for p in (plan, fitted.evenly(6, 20)))
    assert len(plan) == 6 and plan[0] == 0 and found <= even
