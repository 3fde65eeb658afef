"""The guider on a closed-form denoiser in the standalone host."""

import copy
import pickle

import pytest
import torch

from problems import EXACT, IDENTITY, OURS, SAMPLERS, VANILLA, GaussianMixture, answered, begun, sample, sampler
from taylorseer_guider import TaylorSeerGuider, loops
from taylorseer_guider.run import Run
from taylorseer_guider.standalone.guiders import IdentityGuider, VanillaCFG

FULL_CALLS = {"EulerEDMSampler": 20, "HeunEDMSampler": 39, "DPMPP2MSampler": 20}


def error(image, full):
    return ((image - full).norm() / full.norm()).item()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("options", [EXACT, {"use_cache": False}, {"use_cache": False, "interval": 4}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_forecasts_it_is_the_hosts_own_guider_bit_for_bit(name, options, dtype):
    problem = GaussianMixture(dtype=dtype)
    full, _ = sample(name, problem, VANILLA, scale=3.0)
    assert problem.calls == FULL_CALLS[name]
    image, built = sample(name, problem, scale=3.0, **options)
    assert torch.equal(image, full)
    assert built.guider.report.calls == FULL_CALLS[name]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("interval", [1, 2, 3, 5])
@pytest.mark.parametrize("quantity", ["denoised", "eps", "v", "edm"])
def test_calls_counted_in_the_denoiser_are_the_plans_and_the_reports(name, interval, quantity):
    problem = GaussianMixture()
    image, built = sample(name, problem, interval=interval, quantity=quantity, warmup=1, tail=0)
    report = built.guider.report
    assert problem.calls == report.calls == -(-20 // interval)
    assert len(report.visits) == FULL_CALLS[name] == report.calls + report.forecasts
    assert torch.isfinite(image).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_error_falls_with_smaller_intervals(name):
    problem = GaussianMixture(spread=0.6)
    full, _ = sample(name, problem, VANILLA, num_steps=60, scale=1.5)
    options = {"num_steps": 60, "scale": 1.5, "repeat_visits": "compute"}
    errors = [error(sample(name, problem, interval=interval, **options)[0], full) for interval in (10, 6, 3, 2, 1)]
    assert errors[0] == max(errors) and errors[-1] == min(errors)
    assert errors[-1] == 0 < errors[-2] < 0.1


@pytest.mark.parametrize("coordinate", ["auto", "sigma", "rho", "log_sigma", "asinh"])
@pytest.mark.parametrize("basis", ["newton", "taylor"])
def test_every_coordinate_and_basis_comes_near_the_full_run(coordinate, basis):
    problem = GaussianMixture(spread=0.6)
    full, _ = sample("EulerEDMSampler", problem, VANILLA, scale=1.5)
    options = {"quantity": "denoised", "coordinate": coordinate, "basis": basis, "max_order": 1}
    image, _ = sample("EulerEDMSampler", problem, scale=1.5, interval=2, **options)
    assert 0 < error(image, full) < 0.2


def test_a_denoiser_that_is_linear_in_the_coordinate_is_forecast_to_rounding():
    def denoiser(x, sigma, cond):
        return cond["vector"] * sigma[:, None] ** (1 / 7) + torch.ones_like(x)

    x, slope = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    full = sampler("EulerEDMSampler", IDENTITY)(denoiser, x, {"vector": slope})
    built = sampler("EulerEDMSampler", scale=0, interval=3, warmup=2, max_order=1, quantity="denoised", coordinate="rho")
    torch.testing.assert_close(built(denoiser, x, {"vector": slope}), full, rtol=0, atol=1e-6)
    assert built.guider.report.calls == 8


def test_the_guided_output_is_vanilla_cfgs_formula():
    guider = TaylorSeerGuider(scale=7.5)
    uncond, cond = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    torch.testing.assert_close(guider(torch.cat([uncond, cond]), torch.ones(2)), uncond + 7.5 * (cond - uncond))


def test_scale_0_is_the_conditional_branch_and_needs_no_uc():
    problem = GaussianMixture()
    x, cond, _ = problem.inputs()
    full = sampler("HeunEDMSampler", IDENTITY)(problem, x, cond)
    assert torch.equal(sampler("HeunEDMSampler", scale=0, **EXACT)(problem, x, cond), full)
    assert all(seen.shape == x.shape for seen in problem.seen)


def test_scale_1_gives_vanilla_cfgs_result_from_one_branch_where_there_are_forecasts():
    problem, nodes = GaussianMixture(), list(range(20))
    full, _ = sample("EulerEDMSampler", problem, VANILLA, scale=1.0)
    problem.seen.clear()
    image, built = sample("EulerEDMSampler", problem, scale=1.0, plan={"nodes": nodes}, quantity="denoised")
    torch.testing.assert_close(image, full, rtol=1e-9, atol=1e-9)
    assert {seen.shape[0] for seen in problem.seen} == {2}
    assert isinstance(built.guider, IdentityGuider)


def test_later_calls_at_the_second_visit_of_a_node_where_x_is_corrected():
    problem = GaussianMixture()
    _, built = sample("HeunEDMSampler", problem, interval=2, repeat_visits="later")
    report = built.guider.report
    assert problem.calls == report.calls == 10
    assert all(visit.step == visit.node for visit in report.visits if visit.action == "call")
    assert [visit.reason for visit in report.visits[:6]] == [
        "no history", "called later", "skipped", "called later", "planned", "called later",
    ]  # fmt: skip


def test_later_at_every_node_is_nearer_to_the_exact_solution_than_the_full_run_and_costs_half():
    problem = GaussianMixture()
    exact, _ = sample("HeunEDMSampler", problem, VANILLA, num_steps=400, scale=1.5)
    full, _ = sample("HeunEDMSampler", problem, VANILLA, scale=1.5)
    eps = {"quantity": "eps", "max_order": 2, "interval": 1, "scale": 1.5}
    later, built = sample("HeunEDMSampler", problem, repeat_visits="later", **eps)
    reuse, _ = sample("HeunEDMSampler", problem, **eps)
    assert built.guider.report.calls == 20
    assert (later - exact).norm() < (full - exact).norm() < (reuse - exact).norm()


def test_later_is_the_plain_sampler_where_no_visit_looks_ahead():
    plain, _ = sample("EulerEDMSampler", GaussianMixture(), interval=2, quantity="eps")
    later, _ = sample("EulerEDMSampler", GaussianMixture(), interval=2, quantity="eps", repeat_visits="later")
    assert torch.equal(plain, later)


@pytest.mark.parametrize("options", [{}, {"quantity": "eps"}, {"quantity": "v"}, {"repeat_visits": "compute", "interval": 2}])
def test_nothing_leaks_between_runs_sizes_and_batches(options):
    problem, wide = GaussianMixture(), GaussianMixture(shape=(3, 4, 6))
    built = sampler("HeunEDMSampler", **options)
    alone = [sample("HeunEDMSampler", p, inputs=p.inputs(batch, seed), **options)[0] for p, batch, seed in
             [(problem, 2, 0), (wide, 2, 1), (problem, 3, 2), (problem, 2, 3)]]  # fmt: skip
    together = [built(p, *p.inputs(batch, seed)) for p, batch, seed in
                [(problem, 2, 0), (wide, 2, 1), (problem, 3, 2), (problem, 2, 3)]]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_is_a_budget_that_is_kept(name):
    problem, errors = GaussianMixture(), []
    exact, _ = sample("HeunEDMSampler", problem, VANILLA, num_steps=300, scale=5.0)
    for calls in (5, 8, 13, 20):
        problem.calls = 0
        image, built = sample(name, problem, calls=calls)
        assert problem.calls == calls == built.guider.report.calls
        errors.append(float((image - exact).norm()))
    assert errors[0] == max(errors) and errors[-1] == min(errors)


def test_another_shape_in_mid_run_starts_history_afresh():
    guider = TaylorSeerGuider(scale=0, interval=9)
    run = begun(guider, 4.0, 3.0, 2.0, 1.0, 0.0)
    for step, size in enumerate([4, 4, 6, 6]):
        run.place.announce(step)
        answered(guider, torch.randn(2, size), 4.0 - step)
    assert [visit.reason for visit in guider.report.visits] == ["no history", "skipped", "no history", "skipped"]


def test_samples_at_different_sigmas_are_computed():
    guider = TaylorSeerGuider(scale=0, interval=9)
    begun(guider, 4.0, 3.0, 0.0)
    for sigma in ([4.0, 4.0], [3.0, 2.0]):
        answered(guider, torch.randn(2, 5), sigma)
    assert [visit.reason for visit in guider.report.visits] == ["no history", "no common sigma"]


def test_a_second_visit_to_a_sigma_in_one_step_is_another_tile_and_everything_is_computed():
    guider = TaylorSeerGuider(scale=0, interval=3)
    run = begun(guider, 4.0, 3.0, 2.0, 0.0)
    for step in range(3):
        run.place.announce(step)
        for _ in range(2):
            x = torch.randn(2, 5)
            assert torch.equal(answered(guider, x, 4.0 - step), x / 2)
    assert guider.report.forecasts == 0


@pytest.mark.parametrize("quantity", ["denoised", "eps", "v", "edm"])
@pytest.mark.parametrize("history_dtype", [None, "bfloat16"])
def test_a_forecast_leaves_what_is_cached_unchanged_and_shares_no_memory_with_it(quantity, history_dtype, monkeypatch):
    original, dtypes = Run._weighted, []

    def watched(run, visit, x, weights):
        before = [branch.clone() for branch in run.history.branches]
        result = original(run, visit, x, weights)
        assert all(torch.equal(a, branch) for a, branch in zip(before, run.history.branches, strict=True))
        assert result.data_ptr() not in {branch.data_ptr() for branch in run.history.branches} | {x.data_ptr()}
        dtypes.append(result.dtype)
        return result

    monkeypatch.setattr(Run, "_weighted", watched)
    sample("HeunEDMSampler", GaussianMixture(dtype=torch.float32), interval=3, quantity=quantity, history_dtype=history_dtype)
    assert dtypes == [torch.float32] * 32


def test_a_host_that_writes_into_what_it_was_given_does_not_reach_history():
    problem = GaussianMixture()
    reference, _ = sample("EulerEDMSampler", problem, interval=3)
    built = sampler("EulerEDMSampler", interval=3)
    host_denoise = built.denoise

    def careless_denoise(*args):
        denoised = host_denoise(*args)
        answer = denoised.clone()
        denoised.zero_()
        return answer

    built.denoise = careless_denoise
    assert torch.equal(built(problem, *problem.inputs()), reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_stay_half_and_near_the_float32_run(dtype):
    problem = GaussianMixture(spread=0.6, dtype=torch.float32)
    x, cond, uc = problem.inputs()
    single = sampler("EulerEDMSampler", scale=2.0, interval=2)(problem, x, cond, uc)
    half_cond, half_uc = ({k: v.to(dtype) for k, v in c.items()} for c in (cond, uc))
    built = sampler("EulerEDMSampler", scale=2.0, interval=2)
    outputs = []
    host_denoise = built.denoise
    built.denoise = lambda *args: outputs.append(host_denoise(*args)) or outputs[-1]
    half = built(problem, x.to(dtype), half_cond, half_uc)
    assert {output.dtype for output in outputs} == {dtype}
    assert built.guider.report.calls == 10
    assert error(half.float(), single) < 0.1


def test_history_kept_in_a_half_type_takes_half_the_room():
    problem = GaussianMixture(dtype=torch.float32)
    peaks = [
        sample("EulerEDMSampler", problem, max_order=2, history_dtype=dtype)[1].guider.report.peak_bytes
        for dtype in (None, "bfloat16")
    ]
    assert peaks[0] == 2 * peaks[1] == 4 * 2 * 48 * 4


def test_history_is_freed_when_the_run_ends_and_the_report_stays():
    _, built = sample("HeunEDMSampler", GaussianMixture())
    assert loops.current(built.guider) is None
    assert built.guider.report.finished and built.guider.report.peak_bytes > 0


def test_a_run_that_ends_in_an_exception_leaves_nothing_behind():
    problem = GaussianMixture()
    reference, _ = sample("HeunEDMSampler", problem)
    built = sampler("HeunEDMSampler")

    def failing(x, sigma, cond):
        if sigma[0] < 1:
            raise RuntimeError("out of memory, say")
        return problem(x, sigma, cond)

    with pytest.raises(RuntimeError, match="out of memory"):
        built(failing, *problem.inputs(seed=5))
    assert torch.equal(built(problem, *problem.inputs()), reference)


def test_an_output_that_is_not_finite_is_an_error_that_names_step_and_sigma():
    problem = GaussianMixture()

    def overflowing(x, sigma, cond):
        return problem(x, sigma, cond) * (float("inf") if sigma[0] < 1 else 1)

    built = sampler("EulerEDMSampler", interval=3)
    with pytest.raises(FloatingPointError, match=r"step 12, sigma 0\.42.*not finite"):
        built(overflowing, *problem.inputs())


def test_activate_beyond_the_schedule_is_an_error_when_the_run_begins():
    problem = GaussianMixture()
    with pytest.raises(ValueError, match=r"plan.nodes=.25.*nodes 0 to 19"):
        sample("EulerEDMSampler", problem, activate=[0, 25])
    assert problem.calls == 0


def test_it_is_a_guider_of_the_class_that_it_wraps():
    guider = TaylorSeerGuider(guider_config={"target": VANILLA, "params": {"scale": 2.0}})
    assert isinstance(guider, VanillaCFG) and isinstance(guider, TaylorSeerGuider)
    assert issubclass(type(guider), VanillaCFG) and guider.wrapped is VanillaCFG
    assert not isinstance(guider, IdentityGuider)
    guider.scale = 3.0
    assert guider.scale == 3.0 and guider(torch.tensor([[0.0], [1.0]]), torch.ones(1)) == 3.0
    with pytest.raises(AttributeError, match="num_frames"):
        _ = guider.num_frames


def test_extra_parameters_go_to_the_wrapped_guider():
    guider = TaylorSeerGuider(guider_config={"target": VANILLA}, scale=4.0)
    assert guider.scale == 4.0


def test_scale_can_be_set_between_images():
    problem = GaussianMixture()
    built = sampler("EulerEDMSampler", scale=5.0)
    built.guider.scale = 2.0
    assert torch.equal(built(problem, *problem.inputs()), sample("EulerEDMSampler", problem, scale=2.0)[0])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda guider: pickle.loads(pickle.dumps(guider))])
def test_copies_have_the_settings_and_no_state(again):
    _, built = sample("EulerEDMSampler", GaussianMixture(), interval=4, scale=2.5)
    twin = again(built.guider)
    assert type(twin) is type(built.guider) and isinstance(twin, VanillaCFG)
    assert twin.settings == built.guider.settings and twin.scale == 2.5
    assert twin.report is None


def test_where_gradients_are_recorded_nothing_is_held():
    problem = GaussianMixture()
    x, cond, uc = problem.inputs()
    built = sampler("EulerEDMSampler", interval=5)
    image, report = built(problem, x.requires_grad_(), cond, uc), built.guider.report
    assert (report.calls, report.forecasts, report.peak_bytes) == (20, 0, 0) and image.requires_grad


def test_the_target_is_found_by_the_name_in_the_readme():
    assert sampler("EulerEDMSampler", OURS).guider.settings == TaylorSeerGuider().settings
