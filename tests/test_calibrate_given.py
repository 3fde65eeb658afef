"""What `calibrate` may be given: guiders with options, wide outputs, flat x, random or idle denoisers, other files."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loops import said
from problems import VANILLA, GaussianMixture, runs, sample, sampler, sampler_config
from taylorseer_guider import Calibration, calibrate
from taylorseer_guider.calibration.fit import _warn_of_copies
from taylorseer_guider.standalone.config import instantiate_from_config

SCALE = 2.0
QUICK = {"calls": 4, "substeps": 2, "refine": 1, "progress": False}


@pytest.fixture(scope="module")
def problem():
    return GaussianMixture((4,))


@pytest.mark.parametrize(
    "options",
    [{"calls": 4, "learn": True}, {"history": {"dtype": "bfloat16"}}, {"plan": {"nodes": [0, 3]}}, {"plan": {"tolerance": 0.1}}],
    ids=str,
)
def test_a_guiders_own_options_are_for_its_own_runs(problem, options):
    given = runs(problem, 1, 8)
    plain = calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, given, **QUICK)
    assert calibrate(sampler("HeunEDMSampler", scale=SCALE, **options), problem, given, **QUICK).budgets == plain.budgets


def test_a_scale_that_is_a_tensor_of_one_number_is_that_number(problem):
    given, tensor = runs(problem, 1, 8), torch.full((1, 1), SCALE, dtype=torch.float64)
    one = sampler("HeunEDMSampler", guider_config={"target": VANILLA, "params": {"scale": tensor}})
    plain = calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, given, **QUICK)
    assert calibrate(one, problem, given, **QUICK).budgets == plain.budgets


def narrow(problem, dtype):
    """A denoiser that answers x of ``dtype`` in float32."""
    return lambda x, sigma, cond: problem(x.float(), sigma.float(), cond)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_outputs_may_be_wider_than_x(dtype, tmp_path):
    problem = GaussianMixture((4,), dtype=torch.float32)
    denoiser = narrow(problem, dtype)
    given = [{**run, "x": run["x"].to(dtype)} for run in runs(problem, 1, 8)]
    calibrate(sampler("HeunEDMSampler", scale=SCALE), denoiser, given, **QUICK).save(tmp_path / "found.yaml")
    x, cond, uc = problem.inputs()
    for options in ({"calls": 4}, {"calls": 4, "calibration": str(tmp_path / "found.yaml")}):
        built = sampler("HeunEDMSampler", scale=SCALE, **options)
        built(denoiser, x.to(dtype), cond, uc)
        assert built.guider.report.calls == 4


def test_flat_x_has_no_blocks_to_take_means_of(problem):
    with pytest.raises(ValueError, match=r"low=True: x is \(8, 4\).*height and a width"):
        calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, runs(problem, 1, 8), low=True, **QUICK)


@pytest.mark.parametrize("answer", [lambda x, sigma, cond: x, lambda x, sigma, cond: 0 * x], ids=["x", "nothing"])
def test_a_denoiser_that_says_nothing_leaves_nothing_to_weigh(problem, answer):
    found = calibrate(sampler("EulerEDMSampler", scale=SCALE), answer, runs(problem, 1, 8), **{**QUICK, "refine": 0})
    assert all(torch.isfinite(torch.tensor(row.weights)).all() for row in found.budgets[4].rows)


def test_a_random_denoiser_is_told_of_at_the_first_reference(problem, caplog):
    def dropped(x, sigma, cond):
        return problem(x, sigma, cond) * (1 + 0.3 * torch.randn(x.shape, dtype=x.dtype))

    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="in eval mode"):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), dropped, runs(problem, 1, 8), **QUICK)
    assert "the first output was another one" in said(caplog)[0].getMessage()


def test_a_denoiser_of_several_outputs_is_refused(problem):
    class Heads(type(sampler("EulerEDMSampler"))):
        def denoise(self, x, denoiser, sigma, cond, uc):
            return self.guider(denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc))[0], sigma)

    built = sampler("EulerEDMSampler", scale=SCALE)
    built.__class__ = Heads
    with pytest.raises(ValueError, match="the denoiser returns a tuple"):
        calibrate(built, lambda *args: (problem(*args), "features"), runs(problem, 1, 8), **QUICK)


def test_a_file_of_a_schedule_that_began_higher_is_begun_with_where_it_fits(problem):
    def between(largest, smallest):
        config = sampler_config("HeunEDMSampler", scale=SCALE)
        config["params"]["discretization_config"]["params"] = {"sigma_max": largest, "sigma_min": smallest}
        return instantiate_from_config(config)

    given, options = runs(problem, 1, 8), {**QUICK, "calls": 8}
    early = calibrate(between(40.0, 0.002), problem, given, **options)
    for largest, smallest in ((14.6, 0.03), (80.0, 0.002)):
        found = calibrate(between(largest, smallest), problem, given, start=early, **options)
        without = calibrate(between(largest, smallest), problem, given, **options)
        assert found.budgets[8].db >= without.budgets[8].db - 1


def test_weights_that_turn_x_over_lose_no_digits_on_another_schedule(tmp_path):
    """Rows may well have a large weight of x, or one below 0: x_k is had back from the host's x through it."""
    means = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    problem = GaussianMixture((3, 4, 4), components=3, dtype=torch.float32)
    problem.means = means
    given = [dict(zip(("x", "cond", "uc"), problem.inputs(1, seed=9 + n), strict=True)) for n in range(12)]
    options = {"substeps": 4, "progress": False}
    calibrate(sampler("HeunEDMSampler", scale=3.0), problem, given, calls=5, **options).save(tmp_path / "found.yaml")
    x, cond, uc = problem.inputs(4, seed=1)
    options = {"scale": 3.0, "calls": 5, "calibration": str(tmp_path / "found.yaml")}
    for name in ("EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler"):
        exact, ours = (
            sample(name, problem, inputs=(x.to(dtype), cond, uc), **options)[0] for dtype in (torch.float64, torch.float32)
        )
        assert float((ours.double() - exact).norm() / exact.norm()) < 1.5e-6


def test_runs_that_are_copies_of_others_are_named(caplog):
    problem, built = GaussianMixture(spread=0.4), sampler("HeunEDMSampler", scale=SCALE)
    inputs = [dict(zip(("x", "cond", "uc"), problem.inputs(1, seed=seed), strict=True)) for seed in (1, 2, 1, 1)]
    calibrate(built, problem, inputs, **QUICK)
    assert "2 of 4 runs are copies of others (run 2 of run 0)" in caplog.text
    caplog.clear()
    calibrate(built, problem, inputs[:2], **QUICK)
    told = [{"cond": {"txt": [prompt]}} for prompt in ("a cat", "a dog")]
    _warn_of_copies([SimpleNamespace(x=inputs[0]["x"])] * 2, told)
    assert "copies" not in caplog.text


def test_what_is_left_out_is_counted_in_runs_and_not_again_for_each_scale():
    problem, built = GaussianMixture(spread=0.4), sampler("HeunEDMSampler", scale=SCALE)
    inputs = [dict(zip(("x", "cond", "uc"), problem.inputs(1, seed=seed), strict=True)) for seed in range(12)]
    found = calibrate(built, problem, inputs, scales=[1.5, 2.0, 3.0], **QUICK)
    assert found.about["samples"] == 12 and found.about["unseen"][4]["samples"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "nowhere.yaml"}, "^start='nowhere.yaml': cannot be read"),
        ({"scales": [1.5, "x"]}, r"scales=\[1.5, 'x'\]: give numbers above 0"),
        ({"folder": "/proc/none"}, "folder='/proc/none': cannot be made"),
        ({"folder": ""}, "folder='': give a folder for recordings"),
        ({"folder": 3}, "folder=3: give a folder for recordings"),
        ({"scales": "12"}, "scales='12': give a list"),
        ({"scales": [True, 2]}, r"scales=\[True, 2\]: give numbers above 0"),
        ({"low": "yes"}, "low='yes': give true or false"),
        ({"seed": None}, "seed=None: give a whole number"),
        ({"seed": 2**64}, "seed=18446744073709551616: give a whole number of 18446744073709551615 at most"),
        ({"calls": "8"}, "calls='8': give a whole number"),
        ({"runs": None}, "runs=None: give a list of dictionaries"),
        ({"runs": {"x": torch.ones(1)}}, "runs=.*give a list of dictionaries"),
        ({"runs": [3]}, "run 0=3: give a dictionary"),
        ({"denoiser": None}, "denoiser=None: give what the sampler calls"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_is_said_with_the_name_of_the_argument(options, message):
    problem, built = GaussianMixture(spread=0.4), sampler("HeunEDMSampler", scale=SCALE)
    with pytest.raises(ValueError, match=message):
        calibrate(built, **{"denoiser": problem, "runs": runs(problem, 1, 2), **QUICK, **options})


def test_numbers_may_come_from_numpy_and_are_saved_as_pythons(problem, tmp_path):
    numbers = {"substeps": np.int64(2), "refine": np.int64(1), "history": np.int64(4), "peak": np.float32(2), "seed": np.int64(3)}
    given = {"calls": np.array([3, 4]), "progress": False, **numbers}
    calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, runs(problem, 1, 8), **given).save(tmp_path / "c.yaml")
    found = Calibration.load(tmp_path / "c.yaml")
    assert list(found.budgets) == [3, 4] and found.history == 4 and found.about["seed"] == 3


def test_a_recording_of_something_else_is_made_again(problem, tmp_path, caplog):
    given = runs(problem, 1, 8)
    plain = calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, given, **QUICK, folder=tmp_path)
    for other in ({"a": 1}, [1, 2]):
        torch.save(other, tmp_path / "solution-0.pt")
        again = calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, given, **QUICK, folder=tmp_path)
        assert again.budgets == plain.budgets
    (move,) = tmp_path.glob("refined-*.pt")
    torch.save({"a": 1}, move)
    assert calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, given, **QUICK, folder=tmp_path).budgets == plain.budgets
    for name in ("solution-0.pt", move.name):
        assert f"{name} holds something else, and is made again" in caplog.text


@pytest.mark.parametrize("refine", [0, 1])
def test_another_default_device_changes_nothing(problem, refine):
    built, given = sampler("HeunEDMSampler", scale=SCALE), runs(problem, 1, 12)
    sigmas = built.discretization(built.num_steps)
    built.discretization = lambda *_, **__: sigmas
    expected = calibrate(built, problem, given, **{**QUICK, "refine": refine})
    with torch.device("meta"):
        assert calibrate(built, problem, given, **{**QUICK, "refine": refine}).budgets == expected.budgets
