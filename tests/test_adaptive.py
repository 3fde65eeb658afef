"""Adaptive activation: what error a forecast is expected to have, and what is called because of it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from problems import GaussianMixture, sample
from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider.adaptive import Errors, rms
from taylorseer_guider.forecast import newton_weights, weighted_sum

TOLERANCES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.001)


class Plain(Errors):
    """Errors in the coordinate that polynomials are in."""

    coordinate = staticmethod(float)


def measured(value, nodes, values, cls=Plain):
    return cls.measured(0.0, value, nodes, values, newton_weights, rms(value).amin())


def polynomial(coefficients, u):
    return torch.tensor([[sum(c * u**i for i, c in enumerate(coefficients))]], dtype=torch.float64)


@given(st.lists(st.floats(0.2, 1.5), min_size=4, max_size=4), st.floats(0.1, 2.0), st.integers(1, 3))
def test_the_error_of_a_polynomial_one_degree_too_high_is_expected_exactly(gaps, ahead, degree):
    nodes = [-sum(gaps[:i]) for i in range(1, 5)]  # newest first; the call under way is at 0
    coefficients = [0.5, -1.0, 2.0, 0.7][: degree + 1]
    values = [polynomial(coefficients, u) for u in nodes]
    model = measured(polynomial(coefficients, 0.0), nodes, values)
    known = [0.0, *nodes][:degree]
    guess = weighted_sum(newton_weights(known, ahead), [polynomial(coefficients, u) for u in known])
    miss = abs((guess - polynomial(coefficients, ahead)).item())
    constant = model.constants[degree - 1]
    assert math.isclose(constant * math.prod(abs(ahead - u) for u in known), miss, rel_tol=1e-4)


def test_nothing_measured_is_nothing_trusted():
    assert measured(torch.ones(1, 1), [], []).best(1.0) == (0, math.inf)


def test_the_order_that_would_have_forecast_best_is_chosen():
    nodes = [-1.0, -2.0, -3.0]
    line = measured(polynomial([1, 1], 0.0), nodes, [polynomial([1, 1], u) for u in nodes])
    assert line.best(1.0)[0] == 1 or line.best(1.0)[1] < 1e-6
    noise = [torch.tensor([[v]]) for v in (1.0, -1.0, 1.0)]
    assert measured(torch.tensor([[1.1]]), nodes, noise).best(1.0)[0] == 0


def test_the_worst_sample_of_a_batch_decides():
    assert rms(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == pytest.approx([math.sqrt(12.5), 0])


@pytest.mark.parametrize("quantity", ["denoised", "eps", "v", "edm"])
@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler"])
def test_smaller_tolerance_more_calls_smaller_error(name, quantity):
    problem = GaussianMixture()
    full, _ = sample(name, problem, scale=2.0, interval=1, quantity=quantity)
    calls, errors = [], []
    for tolerance in TOLERANCES:
        problem.calls = 0
        image, built = sample(name, problem, scale=2.0, tolerance=tolerance, max_order=2, quantity=quantity)
        assert problem.calls == built.guider.report.calls
        calls.append(problem.calls)
        errors.append(((image - full).norm() / full.norm()).item())
    assert calls == sorted(calls) and calls[0] < calls[-1] <= 20
    assert errors[-1] < 0.1 * errors[0]


def test_never_skipped_above_the_tolerance_nor_more_than_max_skip():
    _, built = sample("HeunEDMSampler", GaussianMixture(), tolerance=0.2, max_skip=2, max_order=2)
    visits = built.guider.report.visits
    skipped = [visit for visit in visits if visit.reason == "skipped"]
    assert skipped and all(visit.error <= 0.2 for visit in skipped)
    called = [visit.node for visit in visits if visit.action == "call"]
    assert max(b - a for a, b in zip(called, called[1:], strict=False)) <= 3
    assert {visit.reason for visit in visits if visit.action == "call"} <= {"no history", "tolerance", "max_skip"}


def test_warmup_tail_and_step_threshold_still_hold():
    settings = {"tolerance": 1e6, "max_skip": 19}
    _, built = sample("EulerEDMSampler", GaussianMixture(), warmup=3, tail=2, **settings)
    called = [visit.node for visit in built.guider.report.visits if visit.action == "call"]
    assert called == [0, 1, 2, 18, 19]
    _, built = sample("EulerEDMSampler", GaussianMixture(), step_threshold=10.0, **settings)
    called = [visit.sigma for visit in built.guider.report.visits if visit.action == "call"]
    skipped = [visit.sigma for visit in built.guider.report.visits if visit.reason == "skipped"]
    assert all(min(sigma - s for sigma in called if sigma > s) <= 10 for s in skipped)


def test_no_measurement_survives_a_run():
    problem = GaussianMixture()
    image, built = sample("HeunEDMSampler", problem, tolerance=0.1)
    built(problem, *problem.inputs(batch=3, seed=5))
    assert torch.equal(built(problem, *problem.inputs()), image)


def test_the_report_shows_the_expected_error():
    _, built = sample("EulerEDMSampler", GaussianMixture(), tolerance=0.5)
    skipped = next(visit for visit in built.guider.report.visits if visit.reason == "skipped")
    assert f"{skipped.error:.2g}" in str(built.guider.report)
    assert any(visit["error"] == skipped.error for visit in built.guider.report.to_dict()["visits"])


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, "x", True])
def test_a_wrong_tolerance_is_named(wrong):
    with pytest.raises(ValueError, match="tolerance="):
        TaylorSeerGuider(tolerance=wrong)


def test_a_wrong_max_skip_or_two_plans_are_named():
    with pytest.raises(ValueError, match="max_skip=0"):
        TaylorSeerGuider(tolerance=0.1, max_skip=0)
    with pytest.raises(ValueError, match="plan.nodes"):
        TaylorSeerGuider(tolerance=0.1, activate=[0, 3])
