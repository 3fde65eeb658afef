"""Calibration end to end, on denoisers whose solution is known."""

import io
import logging

import pytest
import torch
from tqdm import tqdm

from problems import EXACT, IDENTITY, GaussianMixture, decibels, runs, sample, sampler
from taylorseer_guider import Calibration, calibrate
from taylorseer_guider.calibration import journal
from taylorseer_guider.calibration.host import copied
from taylorseer_guider.calibration.unseen import left_out, say

SCALE = 2.0
QUICK = {"substeps": 2, "refine": 4, "progress": False}


@pytest.fixture(scope="module")
def problem():
    return GaussianMixture((4,))


@pytest.fixture(scope="module")
def held_out(problem):
    """Inputs that no calibration has seen, and their solution."""
    inputs = problem.inputs(400, seed=99)
    return inputs, sample("HeunEDMSampler", problem, inputs=inputs, num_steps=150, scale=SCALE, **EXACT)[0]


@pytest.fixture(scope="module", params=["EulerEDMSampler", "HeunEDMSampler"])
def fitted(request, problem, tmp_path_factory):
    """(sampler's name, its calibration, the file)."""
    calibration = calibrate(sampler(request.param, scale=SCALE), problem, runs(problem), calls=[5, 8], **{**QUICK, "refine": 12})
    path = tmp_path_factory.mktemp("calibration") / f"{request.param}.yaml"
    calibration.save(path)
    return request.param, calibration, str(path)


@pytest.fixture(scope="module")
def euler_file(problem, tmp_path_factory):
    path = tmp_path_factory.mktemp("calibration") / "euler.yaml"
    quick = {**QUICK, "calls": 4}
    calibrate(sampler("EulerEDMSampler", scale=SCALE), problem, runs(problem, 1, 20), **quick).save(path)
    return str(path)


@pytest.mark.parametrize(("calls", "margin"), [(5, 6), (8, 10)])
@pytest.mark.slow
def test_calibrated_wins_by_a_wide_margin_on_held_out_draws(fitted, problem, held_out, calls, margin):
    name, calibration, path = fitted
    inputs, exact = held_out
    ours, built = sample(name, problem, inputs=inputs, scale=SCALE, calibration=path, calls=calls)
    nodes = calibration.budgets[calls].nodes
    others = [
        sample(name, problem, inputs=inputs, scale=SCALE, activate=nodes)[0],
        sample(name, problem, inputs=inputs, scale=SCALE, calls=calls)[0],
        sample(name, problem, inputs=inputs, scale=SCALE, activate=[round(i * 20 / calls) for i in range(calls)])[0],
        sample("DPMPP2MSampler", problem, inputs=inputs, scale=SCALE, num_steps=calls, **EXACT)[0],
    ]
    assert decibels(ours, exact) > max(decibels(other, exact) for other in others) + margin
    assert abs(decibels(ours, exact) - calibration.budgets[calls].db) < 6
    assert built.guider.report.calls == calls


def test_calls_are_those_counted_in_the_denoiser(fitted, problem):
    name, calibration, path = fitted
    before = problem.calls
    _, built = sample(name, problem, scale=SCALE, calibration=path, calls=8)
    report = built.guider.report
    assert problem.calls - before == report.calls == calibration.budgets[8].calls == 8
    assert report.finished and len(report.visits) == {"EulerEDMSampler": 20, "HeunEDMSampler": 39}[name]
    called = [visit for visit in report.visits if visit.action == "call"]
    assert [visit.node for visit in called] == list(calibration.budgets[8].nodes)
    asked = [visit.sigma if visit.asked is None else visit.asked for visit in called]
    assert asked == pytest.approx(calibration.budgets[8].sigmas[:-1], rel=1e-6)


def test_a_run_does_not_depend_on_the_one_before(fitted, problem):
    name, _, path = fitted
    built = sampler(name, scale=SCALE, calibration=path, calls=8)
    first = built(problem, *problem.inputs(3))
    built(problem, *problem.inputs(5, seed=4))
    assert torch.equal(built(problem, *problem.inputs(3)), first)


def test_cache_off_wins_over_a_calibration(fitted, problem):
    name, _, path = fitted
    off, _ = sample(name, problem, scale=SCALE, calibration=path, calls=8, use_cache=False)
    assert torch.equal(off, sample(name, problem, scale=SCALE, **EXACT)[0])


def test_nothing_of_the_callers_changes(problem):
    built = sampler("EulerEDMSampler", scale=SCALE)
    given = runs(problem, 2, 10)
    before = copied(given)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    calibrate(built, problem, given, calls=4, **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert "denoise" not in vars(built)
    for run, old in zip(given, before, strict=True):
        assert torch.equal(run["x"], old["x"])
        assert all(torch.equal(run[side]["vector"], old[side]["vector"]) for side in ("cond", "uc"))


@pytest.mark.slow
def test_recordings_on_disk_give_the_same_calibration_and_an_interrupted_one_goes_on(problem, tmp_path):
    class Interrupted(Exception):
        pass

    def failing(x, sigma, cond):
        if problem.calls - before > 250:
            raise Interrupted
        return problem(x, sigma, cond)

    options = {**QUICK, "calls": 5}
    given = runs(problem, 2, 20)
    before = problem.calls
    whole = calibrate(sampler("EulerEDMSampler", scale=SCALE), problem, given, **options)
    cost, before = problem.calls - before, problem.calls
    with pytest.raises(Interrupted):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), failing, given, folder=tmp_path, **options)
    before = problem.calls
    resumed = calibrate(sampler("EulerEDMSampler", scale=SCALE), problem, given, folder=tmp_path, **options)
    assert problem.calls - before < cost - 90
    assert resumed == whole
    with pytest.raises(ValueError, match="holds another calibration"):
        calibrate(sampler("EulerEDMSampler", scale=1.5), problem, given, folder=tmp_path, **options)


@pytest.mark.slow
def test_means_of_blocks_are_weighed_on_images(tmp_path):
    images = GaussianMixture((3, 8, 8), components=4, dtype=torch.float32)
    calibration = calibrate(sampler("HeunEDMSampler", scale=1), images, runs(images, 2, 6), calls=6, low=True, **QUICK)
    assert all(len(row.low) == len(row.weights) for row in calibration.budgets[6].rows)
    calibration.save(tmp_path / "low.yaml")
    assert Calibration.load(tmp_path / "low.yaml") == calibration
    out, built = sample("HeunEDMSampler", images, scale=1, calibration=str(tmp_path / "low.yaml"))
    assert built.guider.report.calls == 6 and out.isfinite().all()


@pytest.mark.slow
def test_a_half_precision_host_is_fitted_as_near_as_rounding_allows(tmp_path):
    wide, half = GaussianMixture((4,)), GaussianMixture((4,), dtype=torch.bfloat16)
    calibration = calibrate(sampler("EulerEDMSampler", scale=1), half, runs(half), calls=8, **QUICK)
    calibration.save(tmp_path / "half.yaml")
    inputs = half.inputs(300, seed=99)
    exact, _ = sample("HeunEDMSampler", wide, inputs=wide.inputs(300, seed=99), num_steps=100, scale=1, **EXACT)
    ours, _ = sample("EulerEDMSampler", half, inputs=inputs, scale=1, calibration=str(tmp_path / "half.yaml"))
    full, _ = sample("HeunEDMSampler", half, inputs=inputs, scale=1, **EXACT)
    assert ours.dtype == torch.bfloat16
    assert decibels(ours, exact) > decibels(full, exact) - 3


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"num_steps": 3}, r"schedule is 4 sigmas.*fitted for 21 sigmas"),
        ({"scale": 1.5}, "scale is 1.5 here, it was fitted for 2.0"),
        ({"scale": 1}, "scale is 1.0 here, it was fitted for 2.0"),
        ({"guider_config": {"target": IDENTITY}}, "guider is IdentityGuider here"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_both_values(euler_file, problem, change, shown):
    settings = {"name": "EulerEDMSampler", "scale": SCALE, **change}
    with pytest.raises(ValueError, match=shown):
        sample(settings.pop("name"), problem, calibration=euler_file, **settings)


def test_options_of_a_calibration_are_checked_at_construction(fitted):
    name, _, path = fitted
    with pytest.raises(ValueError, match="calls=None: .* budgets of 5 and 8 calls; name one of them"):
        sampler(name, scale=SCALE, calibration=path)
    with pytest.raises(ValueError, match="calls=7: .* budgets of 5 and 8 calls; the nearest are 5 and 8"):
        sampler(name, scale=SCALE, calibration=path, calls=7)
    with pytest.raises(ValueError, match="cannot be read"):
        sampler(name, scale=SCALE, calibration=path + ".absent")


def test_walks_and_gradients_take_their_first_output_from_the_reference(problem):
    firsts = 0

    def counted(x, sigma, cond):
        nonlocal firsts
        firsts += bool(sigma[0] == 40)
        return problem(x, sigma, cond)

    options = {**QUICK, "calls": [4, 5], "refine": 2}
    calibrate(sampler("EulerEDMSampler", scale=SCALE), counted, runs(problem, 2, 20), **options)
    assert firsts == 1 + 2 + 2  # what the output is like, the references, the checks in the sampler itself


@pytest.mark.parametrize("refine", [0, 2])
def test_the_bar_counts_the_calls_and_ends_with_all_that_it_expects(problem, refine, monkeypatch):
    bar = tqdm(file=io.StringIO())
    monkeypatch.setattr(journal, "_bar", lambda: bar)
    before = problem.calls
    options = {**QUICK, "calls": [4, 5], "refine": refine, "progress": True}
    calibrate(sampler("EulerEDMSampler", scale=SCALE), problem, runs(problem, 2, 20), **options)
    assert bar.n == bar.total == problem.calls - before


def test_a_budget_is_found_alone_as_in_a_list(problem):
    built, given = sampler("EulerEDMSampler", scale=SCALE), runs(problem, 1, 20)
    several = calibrate(built, problem, given, calls=[4, 5, 7], **QUICK)
    found, other = calibrate(built, problem, given, calls=7, **QUICK).budgets[7], several.budgets[7]
    assert found.sigmas == pytest.approx(other.sigmas, rel=1e-2) and found.db == pytest.approx(other.db, abs=0.5)


def test_five_budgets_cost_less_than_20_full_runs_and_one_less_than_8(problem):
    built, given = sampler("HeunEDMSampler", scale=SCALE), runs(problem, 1, 10)
    for calls, most in (([5, 6, 8, 10, 13], 20 * 39), (8, 8 * 39)):
        before = problem.calls
        calibrate(built, problem, given, calls=calls, progress=False)
        assert problem.calls - before <= most


def test_an_earlier_calibration_is_started_from(problem, tmp_path):
    built, given = sampler("EulerEDMSampler", scale=SCALE), runs(problem, 1, 20)
    earlier = calibrate(built, problem, given, calls=[5, 8], **{**QUICK, "refine": 6})
    earlier.save(tmp_path / "earlier.yaml")
    before, quick = problem.calls, {**QUICK, "refine": 0}
    again = calibrate(built, problem, given, calls=[5, 7], start=tmp_path / "earlier.yaml", **quick)
    assert problem.calls - before < 30 * 8 + 5 * (4 + 6) + 5 + 7  # the reference; what each budget may begin with, and its check
    assert again.budgets[5].sigmas == pytest.approx(earlier.budgets[5].sigmas, rel=1e-6)
    assert again.budgets[5].db == pytest.approx(earlier.budgets[5].db, abs=0.1)
    assert calibrate(built, problem, given, calls=5, **quick).budgets[5].db < again.budgets[5].db
    with pytest.raises(ValueError, match="start: fitted for VanillaCFG, this is IdentityGuider"):
        calibrate(sampler("HeunEDMSampler", scale=0), problem, given, calls=5, start=earlier, **quick)


def test_a_sampler_that_asks_for_more_visits_is_refused(euler_file, problem):
    built = sampler("EulerEDMSampler", scale=SCALE, calibration=euler_file)
    x, cond, uc = problem.inputs()
    x, s_in, sigmas, *_ = built.prepare_sampling_loop(x, cond, uc)
    built.denoise(x, problem, s_in * sigmas[0], cond, uc)
    with pytest.raises(ValueError, match=r"visit 1 is at sigma 40 here, it was fitted for sigma 30"):
        built.denoise(x, problem, s_in * sigmas[0], cond, uc)


@pytest.mark.parametrize(
    ("samples", "scales", "out"), [([11], 1, ()), ([12], 1, (3, 7, 11)), ([6, 6, 6, 6], 2, (3, 9, 13, 17, 19, 23))], ids=str
)
def test_every_fourth_sample_is_left_out_at_all_scales(samples, scales, out):
    assert left_out(samples, scales) == out


def test_samples_left_out_of_a_fit_are_told_beside_calls_alone(problem, caplog):
    built = sampler("EulerEDMSampler", scale=SCALE)
    about = calibrate(built, problem, runs(problem, 1, 20), calls=[5, 8], **QUICK).about
    assert set(about["unseen"]) == {5, 8} and not caplog.records
    for unseen in about["unseen"].values():
        assert unseen["samples"] == 5 and unseen["db"] > unseen["alone_db"] and unseen["worst"] > unseen["alone_worst"]
    few = calibrate(built, problem, runs(problem, 1, 4), calls=5, **QUICK).about
    assert few["unseen"] == {5: None} and "4 samples are too few to leave any out" in caplog.text


def test_what_left_out_samples_come_to_is_logged_and_what_is_no_better_than_calls_alone_is_warned_of(caplog):
    figures = {"samples": 5, "db": 30.0, "worst": 21.0, "alone_db": 29.0, "alone_worst": 24.0}
    with caplog.at_level(logging.INFO, "taylorseer_guider"):
        say({"samples": 20, "unseen": {8: figures, 10: {**figures, "worst": 25.0}}})
    assert [log.levelno for log in caplog.records] == [logging.WARNING, logging.INFO]
    assert "8 calls, on 5 samples left out" in caplog.text and "`calls: 10` alone has 29.0 and 24.0" in caplog.text
    assert caplog.text.count("give more runs") == 1


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler", "LinearMultistepSampler"])
def test_a_denoiser_may_answer_in_bfloat16(name):
    wide = GaussianMixture((4,), dtype=torch.float32)
    found = calibrate(sampler(name, scale=SCALE), lambda *inputs: wide(*inputs).bfloat16(), runs(wide, 1, 12), calls=6, **QUICK)
    assert found.about["unseen"][6]["db"] > 25


def test_a_samplers_own_denoise_stays(problem):
    built = sampler("EulerEDMSampler", scale=SCALE)
    own = built.denoise

    def denoise(x, denoiser, sigma, cond, uc):
        return own(x, denoiser, sigma, cond, uc)

    built.denoise = denoise
    calibrate(built, problem, runs(problem, 1, 4), calls=3, **QUICK)
    assert built.denoise is denoise


def test_a_scale_of_several_numbers_is_refused(euler_file, problem):
    built = sampler("EulerEDMSampler", scale=SCALE, calibration=euler_file)
    built.guider.__dict__["scale"] = torch.full((2, 1), SCALE)
    with pytest.raises(ValueError, match="scale is a tensor of 2 numbers.*leave `calibration` out"):
        built(problem, *problem.inputs())


def test_a_schedule_that_goes_on_below_the_fitted_one_is_warned_of_once(euler_file, problem, caplog):
    """Discretizations whose last sigma falls with the number of steps, as sgm's own for SDXL, aim at another picture."""
    for _ in range(2):
        built = sampler("EulerEDMSampler", scale=SCALE, calibration=euler_file)
        built.discretization.sigma_min = 0.00123
        built(problem, *problem.inputs())
    (warning,) = [log for log in caplog.records if "this one goes on to 0.00123" in log.getMessage()]
    assert warning.levelno == logging.WARNING
