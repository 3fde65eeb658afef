"""scripts/benchmark.py: other people's methods converge, cost what they say, and the tables and plots are written."""

import json

import pytest
import torch

import benchmark
from bench import compare, fitted, forecasts, measure, methods, solvers, workloads

pytestmark = pytest.mark.filterwarnings("ignore:__array")  # NumPy's, about the schedulers of diffusers

SOLVERS, _ = solvers.available()
FORECASTS, _ = forecasts.available()
OWN = {"Euler", "Heun", "DPM++2M", "iPNDM4"}
SCHEDULE = workloads.schedule()


@pytest.fixture(scope="module")
def mixture():
    return workloads.mixture(2.0, seed=0)


@pytest.fixture(scope="module")
def exact(mixture):
    with torch.no_grad():
        return methods.reference(mixture, 300)


@pytest.fixture(scope="module")
def recording():
    return fitted.record(workloads.training("mixture", 2.0))


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
    denoiser, sigma = workloads.mixture(1.0, seed=0).denoiser, 1.5
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    lean = torch.randn(2, len(denoiser.means), generator=torch.Generator().manual_seed(2))
    variance = denoiser.spread**2 + sigma**2
    away = (x.double()[:, None] - denoiser.means.double()).square().flatten(2).sum(-1)
    (lean - 0.5 * away / variance).logsumexp(-1).sum().backward()
    found = denoiser(x.detach(), torch.full((2,), sigma), {"vector": lean})
    assert torch.allclose(found, x.detach() + sigma**2 * x.grad, atol=1e-4)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_converge_to_the_exact_solution(name, mixture, exact):
    few, many = (away(SOLVERS[name](mixture.denoise, mixture.noise, workloads.schedule(n)), exact) for n in (20, 100))
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


def test_fsampler_skips_more_where_it_may_be_wrong_by_more(mixture):
    calls = []
    for tolerance in (0.0, 0.5, 1e9):
        sampler = forecasts.FSampler(2, tolerance, 20)
        forecasts.heun(mixture.denoise, mixture.noise, SCHEDULE, sampler.wanted, sampler)
        calls.append(mixture.calls)
        mixture.calls = 0
    assert calls[1:] == sorted(calls[1:], reverse=True) and calls[2] == 13  # of 14 unprotected nodes every other one


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
    plan, few = fitted.budcache(recording, 6), fitted.part(recording.workload, 2)
    found, even = (away(foretold(few, p, forecasts.Reuse()), recording.end[:2]) for p in (plan, fitted.evenly(6, 20)))
    assert len(plan) == 6 and plan[0] == 0 and found <= even


@pytest.mark.slow
def test_rows_hold_the_calls_that_were_made(mixture, recording, tmp_path):
    todo, _ = methods.methods([5], methods.Fit(None, {5: (0, 3, 6, 11, 15)}, recording))
    rows, pictures = measure.measure(mixture, todo, keep=(5,))
    assert rows[0]["label"] == "full run" and rows[0]["calls"] == 39 and rows[0]["full_dB"] is None
    for row in rows[1:]:
        assert row["budget"] is None or row["calls"] == row["budget"]
        assert row["exact_dB"] < 100 and row["seconds"] > 0
    assert pictures["exact"].shape == pictures["TaylorSeerGuider", 5].shape


def test_lower_precision_changes_the_embedded_network_a_little():
    single, low = workloads.embedded(1.0, 16, 0), workloads.embedded(1.0, 16, 0, dtype=torch.bfloat16)
    x, sigma = single.noise, torch.tensor(1.0)
    assert 1e-4 < away(low.denoise(x, sigma), single.denoise(x, sigma)) < 0.05


def run(*arguments):
    return benchmark.main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_benchmark_writes_tables_and_plots(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(measure.EXACT_STEPS, "embedded", 30)
    monkeypatch.setitem(measure.EXACT_STEPS, "mixture", 30)
    monkeypatch.setattr(fitted, "WALKS", 2)
    monkeypatch.setattr(compare, "PRICED", ((1, 3, 16, 16),))
    assert run("--quick", "--sizes", 16, "--out-dir", tmp_path) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert {row["workload"] for row in results["rows"]} == {"mixture", "embedded"}
    assert {row["calls"] for row in results["rows"] if row["budget"] == 8} == {7, 8}  # 7: Heun's calls are odd
    assert {row["label"] for row in results["clock"]} == {"full run", methods.DEFAULT, methods.CALIBRATED}
    assert all(row["speed_up"] > 0 and 0 < row["outside"] < 1 for row in results["clock"])
    assert results["bfloat16"] and results["forecast_cost"] and results["about"]["packages"]["torch"]
    text = (tmp_path / "tables.txt").read_text()
    assert "embedded, 16 px, scale 1" in text and "ours - best of the others" in text and text in capsys.readouterr().out
    assert "FSampler 2  " in text and " 1: " in text
    assert (tmp_path / "pareto.png").stat().st_size > 10_000 and (tmp_path / "sheet.png").stat().st_size > 1_000


def test_a_mistake_is_one_line(tmp_path, capsys):
    assert run("--quick", "--workloads", "embedded", "--calibrations", tmp_path / "no.yaml", "--out-dir", tmp_path) == 2
    assert "no.yaml" in capsys.readouterr().err


@pytest.mark.slow
def test_options_are_ranked(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(measure.EXACT_STEPS, "embedded", 30)
    few = [method for method in compare.option_methods(budgets=(5,)) if "v        order 1" in method.label]
    monkeypatch.setattr(compare, "option_methods", lambda: few)
    monkeypatch.setitem(measure.EXACT_STEPS, "mixture", 30)
    assert run("--options", "--scales", 1, "--seeds", 0, "--sizes", 16, "--out-dir", tmp_path) == 0
    shown = capsys.readouterr().out
    assert shown.count("<- default") == 3 and "mixture, scale 1\n" in shown and "embedded, scale 1\n" in shown
