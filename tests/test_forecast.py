"""Weights are exact where mathematics says so; the weighted sum is one sum and touches nothing else."""

import math
from math import comb, factorial

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from taylorseer_guider.forecast import BASES, COORDINATES, distinct, newton_weights, taylor_weights, weighted_sum
from taylorseer_guider.standalone.discretization import EDMDiscretization

UNEVEN = [31.0, 17.5, 9.0, 2.25, 1.5]


def single_gap_weights(nodes, u):
    """The official recurrence: at each activation every order is divided by the newest gap. Wrong on uneven nodes."""
    known, previous = [], None
    for i in reversed(range(len(nodes))):
        rows = [[float(i == j) for j in range(len(nodes))]]
        for older in known:
            rows.append([(a - b) / (nodes[i] - previous) for a, b in zip(rows[-1], older, strict=True)])
        known, previous = rows, nodes[i]
    steps = [(u - nodes[0]) ** i / factorial(i) for i in range(len(nodes))]
    return [sum(step * row[j] for step, row in zip(steps, known, strict=True)) for j in range(len(nodes))]


def polynomial_error(weights_of, nodes, u, degree):
    values = [(node - 1.0) ** degree for node in nodes]
    forecast = sum(w * v for w, v in zip(weights_of(nodes, u), values, strict=True))
    return abs(forecast - (u - 1.0) ** degree) / max(map(abs, [*values, 1.0]))


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("order", range(5))
def test_polynomials_up_to_the_order_are_forecast_exactly_on_uneven_spacing(coordinate, order):
    u = COORDINATES[coordinate]
    nodes, target = [u(sigma) for sigma in UNEVEN[: order + 1]], u(1.1)
    for degree in range(order + 1):
        assert polynomial_error(newton_weights, nodes, target, degree) < 1e-12
    assert polynomial_error(newton_weights, nodes, target, order + 1) > 1e-6


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_the_recurrence_with_a_single_gap_fails_that_test(coordinate):
    u = COORDINATES[coordinate]
    assert polynomial_error(single_gap_weights, [u(sigma) for sigma in UNEVEN[:3]], u(1.1), 2) > 1e-3


def test_a_parabola_on_steps_0_1_2_8_has_second_derivative_2():
    nodes = [8.0, 2.0, 1.0, 0.0]

    def second_derivative(weights_of):
        forecasts = [sum(w * n**2 for w, n in zip(weights_of(nodes, u), nodes, strict=True)) for u in (7.0, 8.0, 9.0)]
        return forecasts[0] - 2 * forecasts[1] + forecasts[2]

    assert second_derivative(newton_weights) == pytest.approx(2.0, abs=1e-12)
    assert second_derivative(single_gap_weights) == pytest.approx(7 / 6)


@pytest.mark.parametrize("order", range(5))
def test_on_a_uniform_grid_taylor_is_the_papers_series_with_binomial_differences(order):
    gap, k = 3, 2
    history = [math.sin(0.3 * t) for t in range(0, -gap * (order + 1), -gap)]  # F(t), F(t + N), ... newest first
    nodes = [float(j * gap) for j in range(order + 1)]  # steps back in time, as the paper counts them
    ours = sum(w * f for w, f in zip(taylor_weights(nodes, -float(k)), history, strict=True))
    paper = 0.0
    for i in range(order + 1):
        difference = sum((-1) ** (i - j) * comb(i, j) * history[j] for j in range(i + 1))
        paper += difference / (factorial(i) * gap**i) * (-k) ** i
    assert ours == pytest.approx(paper, abs=1e-12)


@given(
    st.sampled_from(sorted(BASES)),
    st.lists(st.integers(1, 400), min_size=1, max_size=5, unique=True),
    st.floats(0.01, 40.0),
)
def test_weights_sum_to_one(basis, nodes, u):
    weights = BASES[basis]([node / 10 for node in nodes], u)
    assert sum(weights) == pytest.approx(1.0, abs=1e-9 * max(1.0, sum(map(abs, weights))))


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=8), st.floats(0.0, 100.0))
@example([0.0, 5e-324, 0.5], 0.0)
def test_whatever_the_history_no_weight_divides_by_zero(nodes, u):
    nodes = [*nodes, nodes[0], math.nan, math.inf]
    chosen = distinct(nodes, 4)
    assert chosen[0] == 0 and len(chosen) <= 4
    for basis in BASES.values():
        assert all(math.isfinite(w) for w in basis([nodes[i] for i in chosen], u))


def test_coordinates_are_monotone_and_rho_is_the_step_index_on_an_edm_schedule():
    sigmas = EDMDiscretization(sigma_max=40.0)(20).double().tolist()[:-1]
    for u in COORDINATES.values():
        values = [u(sigma) for sigma in sigmas]
        assert values == sorted(values, reverse=True)
    steps = [COORDINATES["rho"](sigma) for sigma in sigmas]
    gaps = [a - b for a, b in zip(steps, steps[1:], strict=False)]
    assert max(gaps) - min(gaps) < 1e-5 * max(gaps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_weighted_sum_equals_the_sum_in_float64_and_leaves_its_terms_alone(dtype):
    weights = [2.9, -3.3, 1.4]
    terms = [torch.randn(2, 3, 301, 299).to(dtype) for _ in weights]
    kept = [term.clone() for term in terms]
    result = weighted_sum(weights, terms)
    exact = sum(w * term.double() for w, term in zip(weights, terms, strict=True))
    assert result.dtype == dtype
    assert (result.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps * exact.abs().max()
    assert all(torch.equal(a, b) for a, b in zip(terms, kept, strict=True))


def test_half_types_are_accumulated_in_float32():
    terms = [torch.full((10,), value, dtype=torch.bfloat16) for value in (1.0, 1.0, 1.0)]
    weights = [1000.0, 1.0, -1000.0]  # 1001 is not a bfloat16 number
    assert torch.equal(weighted_sum(weights, terms), torch.ones(10, dtype=torch.bfloat16))


def test_the_weighted_sum_takes_tensors_that_are_not_contiguous():
    terms = [torch.randn(4, 5, 6).transpose(0, 2), torch.randn(6, 5, 4)]
    torch.testing.assert_close(weighted_sum([0.5, 2.0], terms), 0.5 * terms[0] + 2.0 * terms[1])


@pytest.mark.parametrize("size", [4, 700])
def test_a_sum_fills_memory_that_lies_otherwise(size):
    one, out = torch.randn(3, size, size), torch.empty(3, size, size).mT
    assert torch.equal(weighted_sum([0.5, 0.25], [one, one], out=out), one * 0.75) and not out.is_contiguous()
