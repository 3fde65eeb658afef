"""What cannot be calibrated, and how that is said."""

import math

import pytest
import torch

from problems import IDENTITY, GaussianMixture, runs, sampler
from taylorseer_guider import TaylorSeerGuider, calibrate
from taylorseer_guider.standalone.sampling import BaseDiffusionSampler, EulerEDMSampler

SCALE = 2.0
QUICK = {"substeps": 2, "refine": 4, "progress": False}


@pytest.fixture(scope="module")
def problem():
    return GaussianMixture((4,))


class EulerThatDampens(EulerEDMSampler):
    """A subclass by name, and another method in truth."""

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        x, state = super().sampler_step(x, sigma, next_sigma, denoiser, cond, uc, state)
        return 0.99 * x, state


class EulerThatForgets(EulerEDMSampler):
    """Its steps are Euler's, but of every second output it takes a part: not what was asked for is what it goes on with."""

    asked = 0

    def denoise(self, x, denoiser, sigma, cond, uc):
        answer, self.asked = super().denoise(x, denoiser, sigma, cond, uc), self.asked + 1
        return 0.9 * answer if self.asked % 2 else answer


class Unknown(BaseDiffusionSampler):
    """Of a host that nobody knows."""


class PlainEuler(EulerEDMSampler):
    pass


def made(cls):
    sampler = cls({"target": "taylorseer_guider.standalone.discretization.EDMDiscretization"}, 20)
    sampler.guider = TaylorSeerGuider(scale=SCALE)
    return sampler


def test_what_cannot_be_calibrated_is_refused_with_the_reason(problem):
    given = runs(problem, 1, 5)
    with pytest.raises(ValueError, match="Unknown cannot be calibrated: it is not known how it steps"):
        calibrate(made(Unknown), problem, given, **QUICK)
    with pytest.raises(ValueError, match="guider is IdentityGuider"):
        calibrate(sampler("EulerEDMSampler", IDENTITY), problem, given, **QUICK)
    with pytest.raises(ValueError, match="runs is empty"):
        calibrate(sampler("EulerEDMSampler"), problem, [], **QUICK)
    with pytest.raises(ValueError, match="calls=0"):
        calibrate(sampler("EulerEDMSampler"), problem, given, calls=[8, 0], **QUICK)
    with pytest.raises(ValueError, match="calls=21: the schedule has 20 nodes"):
        calibrate(sampler("EulerEDMSampler"), problem, given, calls=21, **QUICK)
    churning = sampler("EulerEDMSampler")
    churning.s_churn = 0.5
    with pytest.raises(ValueError, match="s_churn=0.5 adds noise"):
        calibrate(churning, problem, given, **QUICK)
    with pytest.raises(ValueError, match="EulerThatDampens cannot be calibrated: it is not known how it steps"):
        calibrate(made(EulerThatDampens), problem, given, calls=4, **QUICK)
    with pytest.raises(ValueError, match="EulerThatForgets does not step as it is thought to.*relative"):
        calibrate(made(EulerThatForgets), problem, given, calls=4, **QUICK)


def test_a_subclass_that_steps_as_its_base_is_calibrated(problem):
    calibration = calibrate(made(PlainEuler), problem, runs(problem, 1, 5), calls=4, **QUICK)
    assert calibration.fitted.sampler == "EulerEDMSampler"


def test_what_does_not_fit_is_refused_before_anything_is_computed(problem):
    given, before = runs(problem, 1, 5), problem.calls
    with pytest.raises(ValueError, match="calls=21: the schedule has 20 nodes"):
        calibrate(sampler("EulerEDMSampler"), problem, given, calls=[4, 21], **QUICK)
    with pytest.raises(ValueError, match="not known how it steps"):
        calibrate(made(EulerThatDampens), problem, given, calls=4, **QUICK)
    assert problem.calls == before


def test_a_sampler_that_begins_no_run_is_refused_with_the_remedy(problem):
    class EulerEDMSampler:  # of a host that nobody knows
        guider = TaylorSeerGuider(scale=SCALE)

        def denoise(self, x, denoiser, sigma, cond, uc):
            raise AssertionError("asked for an output")

        def __call__(self, denoiser, x, cond, uc):
            return self.denoise(x, denoiser, x[:, 0], cond, uc)

    with pytest.raises(ValueError, match=r"begins no run through the shim; call taylorseer_guider.shim.attach\(sampler\)"):
        calibrate(EulerEDMSampler(), problem, runs(problem, 1, 5), **QUICK)


def test_an_output_that_is_not_finite_ends_a_calibration_and_names_its_sigma(problem):
    def failing(x, sigma, cond):
        return problem(x, sigma, cond) * (math.nan if sigma[0] < 0.01 else 1)

    with pytest.raises(FloatingPointError, match="guided output at sigma 0.00[0-9]* is not finite"):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), failing, runs(problem, 1, 5), **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calls": []}, "calls=.*give a number of calls"),
        ({"calls": 0}, "calls=0: give a whole number from 1 up"),
        ({"calls": 3, "history": 101}, "history=101: 100 outputs may be weighed at most"),
        ({"calls": 3, "peak": 0}, "peak=0: give a number above 0"),
        ({"calls": 3, "peak": math.nan}, "peak=nan"),
        ({"calls": 3, "peak": "2"}, "peak='2'"),
        ({"calls": 3, "scales": 2.0}, "scales=2.0: give a list"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_said_before_a_call(problem, options, message):
    before = problem.calls
    with pytest.raises(ValueError, match=message):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), problem, runs(problem, 1, 4), **{**QUICK, **options})
    assert problem.calls == before


def test_a_schedule_that_stops_short_of_0_is_refused_before_a_call(problem):
    built, before = sampler("EulerEDMSampler", scale=SCALE), problem.calls
    built.discretization = lambda n, device="cpu": torch.tensor([40.0, 10.0, 3.0, 1.0])
    with pytest.raises(ValueError, match="only a schedule of sigmas that fall to 0"):
        calibrate(built, problem, runs(problem, 1, 4), calls=2, **QUICK)
    assert problem.calls == before


def test_a_folder_is_of_its_runs(problem, tmp_path):
    """The same noise under another condition is another run."""
    given, options = runs(problem, 2, 4), {**QUICK, "calls": 3, "folder": tmp_path}
    calibrate(sampler("EulerEDMSampler", scale=SCALE), problem, given, **options)
    given[1]["cond"] = {"vector": -given[1]["cond"]["vector"]}
    with pytest.raises(ValueError, match="holds another calibration.*runs"):
        calibrate(sampler("EulerEDMSampler", scale=SCALE), problem, given, **options)
