"""Schedules with one sigma twice, or that end in 0 twice, x with hardly any axes, options from numpy: no reason to fail."""

import numpy as np
import pytest
import torch

from problems import VANILLA, GaussianMixture, Listed, decibels, sampler
from taylorseer_guider import Calibration, calibrate

SCALE = 1.5


def sampled(name, sigmas, target="taylorseer_guider.TaylorSeerGuider", **options):
    """(picture, calls)."""
    built, problem = sampler(name, target, scale=SCALE, **options), GaussianMixture(spread=0.6)
    built.discretization = Listed(*sigmas, dtype=torch.float64)
    return built(problem, *problem.inputs()), problem.calls


def usual():
    return sampler("EulerEDMSampler").discretization(20).tolist()


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
def test_a_sigma_twice_takes_no_more_calls_and_makes_nearly_the_same_picture(name):
    sigmas = usual()
    exact = sampled("HeunEDMSampler", sampler("EulerEDMSampler").discretization(200).tolist(), VANILLA)[0]
    once, calls = sampled(name, sigmas, calls=8)
    twice, same = sampled(name, [*sigmas[:8], sigmas[7], *sigmas[8:]], calls=8)
    assert calls == same == 8 and decibels(twice, exact) > decibels(once, exact) - 6


@pytest.mark.parametrize("name", ["DPMPP2MSampler", "LinearMultistepSampler"])
def test_where_the_host_itself_divides_by_nothing_the_error_is_no_other_than_its_own(name):
    sigmas = usual()
    with pytest.raises(FloatingPointError, match="not finite"):
        sampled(name, [*sigmas[:8], sigmas[7], *sigmas[8:]], calls=8)
    picture, _ = sampled("DPMPP2MSampler", [1.26, 1.26, 0.0])
    assert picture.isfinite().all()


def test_a_schedule_may_end_in_0_twice():
    picture, calls = sampled("DPMPP2MSampler", [20.0, 8.0, 3.0, 1.0, 0.3, 0.1, 0.0, 0.0], calls=3)
    assert picture.isfinite().all() and calls <= 4


@pytest.mark.parametrize("options", [{"plan": {"tolerance": 0.1}}, {"learn": True, "calls": 4}], ids=str)
def test_samples_may_be_single_numbers(options):
    built = sampler("HeunEDMSampler", scale=1, **options)
    for seed in range(2):
        x = torch.randn(5, generator=torch.Generator().manual_seed(seed))
        assert built(lambda x, sigma, cond: torch.tanh(x), x, {}, {}).isfinite().all()


def test_options_may_be_numpys():
    picture, calls = sampled("EulerEDMSampler", usual(), max_order=np.int64(3), calls=np.int64(8))
    assert calls == 8 and torch.equal(picture, sampled("EulerEDMSampler", usual(), max_order=3, calls=8)[0])
    with pytest.raises(ValueError, match=r"plan.nodes=array\(3\): give a list of step indices"):
        sampled("EulerEDMSampler", usual(), plan={"nodes": np.array(3)})


def test_a_calibration_that_weighs_means_of_blocks_refuses_x_without_height_and_width(tmp_path):
    images, path = GaussianMixture((1, 4, 4)), tmp_path / "low.yaml"
    given = [dict(zip(("x", "cond", "uc"), images.inputs(6, seed=1), strict=True))]
    calibrate(sampler("HeunEDMSampler", scale=1), images, given, calls=4, low=True, refine=0, progress=False).save(path)
    assert Calibration.load(path).budgets[4].rows[0].low
    flat, built = GaussianMixture((16,)), sampler("HeunEDMSampler", scale=1, calibration=str(path), calls=4)
    with pytest.raises(ValueError, match=r"means of blocks: x is \(\d+, 16\), give one with a height and a width"):
        built(flat, *flat.inputs())
