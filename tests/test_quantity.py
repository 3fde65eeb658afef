"""What is forecast: the quantities, and the one that suits a sampler."""

import pytest
import torch

from problems import EXACT, SAMPLERS, GaussianMixture, answered, begun, sample, sampler
from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider.hosts import stepping
from taylorseer_guider.standalone.config import append_dims
from taylorseer_guider.standalone.sampling import EulerEDMSampler


@pytest.mark.parametrize(("quantity", "spread"), [("v", 1.0), ("edm", 0.5)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_one_call_is_enough_on_gaussian_data_of_the_spread_that_a_quantity_is_for(name, quantity, spread):
    def denoiser(x, sigma, cond):
        return spread**2 * x / (spread**2 + append_dims(sigma, x.ndim) ** 2)

    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = sampler(name, scale=1, **EXACT)(denoiser, x.clone(), {})
    own, eps = (sampler(name, scale=1, interval=20, quantity=quantity)(denoiser, x.clone(), {}) for quantity in (quantity, "eps"))
    assert torch.allclose(own, full, rtol=1e-9) and not torch.allclose(eps, full, rtol=1e-2)


@pytest.mark.parametrize("plan", [{"tolerance": 0.1}, {"repeat_visits": "later"}, {"basis": "taylor", "calls": 7}])
def test_auto_is_eps_where_the_sampler_adds_no_noise_and_no_solver_forecasts(plan):
    by_itself, named, denoised = (sample("DPMPP2MSampler", GaussianMixture(), **plan, **options)[0] for options in
                                  ({}, {"quantity": "eps"}, {"quantity": "denoised"}))  # fmt: skip
    assert torch.equal(by_itself, named) and not torch.equal(by_itself, denoised)


@pytest.mark.parametrize(("quantity", "coordinate"), [("v", "asinh"), ("edm", "rho"), ("eps", "rho"), ("denoised", "asinh")])
def test_the_coordinate_suits_the_quantity(quantity, coordinate):
    by_itself, named = (sample("EulerEDMSampler", GaussianMixture(), quantity=quantity, **options)[0] for options in
                        ({}, {"coordinate": coordinate}))  # fmt: skip
    other, _ = sample("EulerEDMSampler", GaussianMixture(), quantity=quantity, coordinate="log_sigma")
    assert torch.equal(by_itself, named) and not torch.equal(by_itself, other)


class PlainEulerSampler(EulerEDMSampler):
    """A sampler that steps as its base does."""


class SomethingEulerSampler(EulerEDMSampler):
    """A sampler that steps by itself: it might add noise."""

    def sampler_step(self, *args, **kwargs):
        return super().sampler_step(*args, **kwargs)


def euler(cls=EulerEDMSampler, churn=0.0):
    built = sampler("EulerEDMSampler", scale=0)
    built.__class__, built.s_churn = cls, churn
    return built


@pytest.mark.parametrize("noisy", [euler(SomethingEulerSampler), euler(churn=4.0), object()])
def test_auto_is_denoised_where_the_sampler_may_add_noise(noisy):
    assert stepping(noisy).noisy and not stepping(euler()).noisy and not stepping(euler(PlainEulerSampler)).noisy
    guider = TaylorSeerGuider(scale=0, interval=9)
    begun(guider, 4.0, 3.0, 0.0, sampler=noisy)
    first = answered(guider, torch.full((1, 4), 8.0), 4.0)
    assert torch.equal(answered(guider, torch.full((1, 4), 80.0), 3.0), first)  # the output again, whatever x is


def test_auto_is_denoised_where_x_has_another_shape_than_the_output():
    guider = TaylorSeerGuider(scale=0, interval=9)
    begun(guider, 4.0, 3.0, 0.0, sampler=euler())
    first = answered(guider, torch.ones(1, 4), 4.0, lambda x, sigma, cond: x[:, :2] / 2)
    assert torch.equal(answered(guider, torch.zeros(1, 4), 3.0), first) and first.shape == (1, 2)


class EulerAncestralSampler(EulerEDMSampler):
    """By name one that adds noise."""


@pytest.mark.parametrize(
    ("built", "options", "order"),
    [
        (euler(), {}, 2), (euler(), {"quantity": "eps"}, 1),
        (euler(EulerAncestralSampler), {}, 0), (euler(churn=4.0), {}, 0), (euler(SomethingEulerSampler), {}, 1),
        (euler(EulerAncestralSampler), {"max_order": 2}, 2), (euler(churn=4.0), {"max_order": 1}, 1), (None, {}, 1),
    ],
)  # fmt: skip
def test_the_order_is_0_on_samplers_known_to_add_noise_unless_one_is_named(built, options, order):
    guider = TaylorSeerGuider(scale=0, plan={"nodes": [0, 1, 2]}, **options)
    run = begun(guider, 4.0, 3.0, 2.0, 1.0, 0.0, sampler=built)
    assert run.policy.settings.max_order == order and guider.max_order == options.get("max_order")
