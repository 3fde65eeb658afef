"""Plans: every promise of the options, on any schedule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taylorseer_guider.plan import evenly, plan, with_calls
from taylorseer_guider.standalone.discretization import EDMDiscretization

TWENTY = [float(20 - i) for i in range(20)]


def active(**options):
    return [i for i, on in enumerate(plan(TWENTY, **options)) if on]


def test_every_third_node():
    assert active(interval=3) == [0, 3, 6, 9, 12, 15, 18]


def test_the_interval_is_counted_from_the_end_of_the_warmup():
    assert active(interval=4, warmup=3, tail=1) == [0, 1, 2, 6, 10, 14, 18, 19]


def test_listed_nodes_win_over_everything_else():
    assert active(interval=2, warmup=5, tail=5, nodes=(0, 7, 11)) == [0, 7, 11]


def test_a_node_beyond_the_schedule_is_an_error_that_names_it_and_the_range():
    with pytest.raises(ValueError, match=r"\[20, 33\].*0 to 19"):
        active(nodes=(0, 20, 33))


def test_a_step_threshold_is_a_distance_in_sigma():
    assert active(interval=100, step_threshold=4.5) == [0, 5, 10, 15]


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=60, unique=True), st.data())
def test_calls_are_spread_over_any_schedule_and_none_is_lost(sigmas, data):
    calls = data.draw(st.integers(1, len(sigmas)))
    flags = plan(sorted(sigmas, reverse=True), calls=calls, interval=3, warmup=4, tail=2)
    assert flags[0] and sum(flags) == calls and len(flags) == len(sigmas)


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=60, unique=True), st.data())
def test_calls_with_even_gaps_are_on_any_schedule_within_it_each_at_a_node_of_its_own(sigmas, data):
    sigmas = sorted(sigmas, reverse=True)
    calls = data.draw(st.integers(1, len(sigmas)))
    called = evenly(sigmas, calls)
    nodes, found = list(called), list(called.values())
    assert nodes == sorted(set(nodes)) and nodes[0] == 0 and len(nodes) == calls
    assert found[0] == sigmas[0] and found == sorted(found, reverse=True)
    assert found[-1] >= sigmas[-1] * (1 - 1e-4)


@pytest.mark.parametrize("calls", [5, 8, 13])
def test_spread_calls_are_dense_where_outputs_turn_and_rare_at_both_ends(calls):
    sigmas = EDMDiscretization(sigma_min=0.002, sigma_max=40.0)(20).tolist()[:-1]
    flags = plan(sigmas, calls=calls)
    share = {
        where: sum(flags[i] for i in range(1, 20) if low < sigmas[i] <= high) / sum(low < s <= high for s in sigmas[1:])
        for where, (low, high) in {"noise": (10, 40), "turning": (0.1, 10), "settled": (0, 0.02)}.items()
    }
    assert share["turning"] > 1.5 * max(share["noise"], share["settled"])


def test_a_node_at_infinite_sigma_is_the_first_call():
    assert plan([float("inf"), 9.0, 1.0, 0.1], calls=2)[0]


def test_more_calls_than_nodes_is_an_error_that_names_both():
    with pytest.raises(ValueError, match=r"calls=21: this schedule has 20 nodes; give 1 to 20"):
        plan(TWENTY, calls=21)


@given(
    st.lists(st.floats(0.001, 100.0), min_size=1, max_size=60, unique=True),
    st.integers(1, 9), st.integers(0, 9), st.integers(0, 9),
)  # fmt: skip
def test_gaps_never_exceed_the_interval_and_ends_are_kept(sigmas, interval, warmup, tail):
    flags = plan(sorted(sigmas, reverse=True), interval=interval, warmup=warmup, tail=tail)
    chosen = [i for i, on in enumerate(flags) if on]
    assert len(flags) == len(sigmas)
    assert all(flags[:warmup]) and (not tail or all(flags[-tail:]))
    assert all(b - a <= interval for a, b in zip(chosen, chosen[1:], strict=False))
    assert len(sigmas) - 1 - chosen[-1] < interval


@given(st.floats(0.01, 100.0), st.integers(1, 6))
def test_an_interval_counts_steps_and_a_threshold_scales_with_sigma(factor, interval):
    scaled = [factor * sigma for sigma in TWENTY]
    assert plan(scaled, interval=interval) == plan(TWENTY, interval=interval)
    assert plan(scaled, interval=99, step_threshold=4.5 * factor) == plan(TWENTY, interval=99, step_threshold=4.5)


def test_the_last_node_stays_where_the_last_call_is_above_it():
    """A run ends at the output of its last sigma, which on a coarse schedule is another one there."""
    assert with_calls((4.0, 2.0, 1.0, 0.0), {0: 4.0, 2: 1.2}) == ((4.0, 2.0, 1.2, 1.0, 0.0), [0, 2])
    assert with_calls((4.0, 2.0, 1.0, 0.0), {0: 4.0, 1: 2.5}) == ((4.0, 2.5, 1.0, 0.0), [0, 1])
    assert with_calls((4.0, 2.0, 1.0, 0.0), {0: 4.0, 2: 1.0}) == ((4.0, 2.0, 1.0, 0.0), [0, 2])
