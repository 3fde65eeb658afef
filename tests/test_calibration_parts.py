"""The parts of a calibration, each on its own: solves, stepping, answers, search, the journal."""

import itertools

import pytest
import torch

from taylorseer_guider.calibration.journal import Journal
from taylorseer_guider.calibration.ode import Reference, Walker, calls_at, stops
from taylorseer_guider.calibration.plans import Replay, initial_plan, likeliest, promising, resized
from taylorseer_guider.calibration.squares import gram, ridge, solve
from taylorseer_guider.forecast import Weights, block_means, filled, weigh

SIGMAS = (4.0, 1.0, 0.1, 0.0)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("samples", [6, 30])
def test_solving_finds_the_weights_that_made_the_target(samples):
    regressors = list(drawn(4, samples, 50))
    regressors[0] *= 40  # x at the first sigma
    made = [0.3, -1.5, 2.0, 0.2]
    target = sum(weight * regressor for weight, regressor in zip(made, regressors, strict=True))
    weights, mean_square = solve(gram([*regressors, target]), [0.0, 1.0, 0.0, 0.0])
    assert weights == pytest.approx(made, rel=1e-5, abs=1e-6)
    assert mean_square < 1e-10 * float(target.square().mean())


def test_the_weights_of_each_block_keep_the_sum_that_theory_has():
    weights, _ = solve(gram(list(drawn(7, 9, 20))), [0.0, 2.0, -1.0, 0.0, 0.0, 0.0], blocks=2)
    assert sum(weights[:3]) == pytest.approx(1) and sum(weights[3:]) == pytest.approx(0, abs=1e-12)


def test_a_regressor_given_twice_is_no_trouble():
    x, v = drawn(2, 5, 30)
    weights, _ = solve(gram([x, v, v, 0.5 * x + 0.5 * v]), [0.0, 1.0, 0.0])
    assert weights[0] == pytest.approx(0.5, rel=1e-4) and sum(weights) == pytest.approx(1)


def test_a_sample_that_nothing_fits_does_not_spoil_the_others():
    regressors = list(drawn(3, 12, 40))
    made = [0.2, 1.3, -0.5]
    target = sum(weight * regressor for weight, regressor in zip(made, regressors, strict=True))
    target[5] = 30 * drawn(40, seed=1)
    weights, _ = solve(gram([*regressors, target]), [0.0, 1.0, 0.0])
    assert weights == pytest.approx(made, abs=1e-3)


def test_few_samples_leave_weights_near_to_theory():
    regressors, theory = list(drawn(3, 3, 40)), [0.0, 1.5, -0.5]
    moved = [0.4, 1.0, -0.4]
    target = sum(weight * regressor for weight, regressor in zip(moved, regressors, strict=True))
    weights, _ = solve(gram([*regressors, target]), theory)
    far = lambda found, other: sum((a - b) ** 2 for a, b in zip(found, other, strict=True))  # noqa: E731
    assert 0 < far(weights, theory) < far(moved, theory) and far(weights, moved) < far(theory, moved)


def test_a_stronger_ridge_is_chosen_where_samples_are_few_and_noisy():
    base = drawn(8, 6)
    near = [base + 1e-4 * drawn(8, 6, seed=seed) for seed in range(4)]
    grams = gram([*near, base + 0.05 * drawn(8, 6, seed=9)])
    weights, _ = solve(grams, [0.0, 1.0, 0.0, 0.0])
    assert max(map(abs, weights)) < float(ridge(grams.sum(0), 1e-9).abs().max())


@pytest.mark.parametrize(("method", "visits"), [("euler", 3), ("heun", 5)])
def test_answering_with_the_target_lands_on_the_reference(method, visits):
    rng = torch.Generator().manual_seed(0)
    x, references = torch.randn(2, 5, generator=rng), torch.randn(3, 2, 5, generator=rng)
    walk = stops(method, SIGMAS)
    assert len(walk) == visits
    walker = Walker(x, x)
    for stop in walk:
        walker.advance(stop, walker.target(stop, references[stop.step]))
        assert torch.allclose(walker.at, references[stop.step], atol=1e-4)


def test_a_node_is_called_at_its_first_visit():
    walk = stops("heun", SIGMAS)
    called = [(stop.step, stop.corrector) for stop, call in zip(walk, calls_at(walk, {0, 2}), strict=True) if call]
    assert called == [(0, False), (1, True)]


SHAPES = [(2, 3, 8, 8), (1, 2, 6, 9), (1, 1, 3, 4), (2, 4, 3), (1, 2, 2), (1, 2, 3, 17, 4), (1, 1, 1604, 600)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_answer_weighs_details_and_means_apart(shape):
    rng = torch.Generator().manual_seed(0)
    x, newest, older = torch.randn(3, *shape, generator=rng)
    weights = Weights(0.1, (2.0, -1.0), (0.5, -0.3, 0.7), 1, 3.0)
    means = [block_means(newest), block_means(older)]
    got = weigh(weights, x, [newest, older], means, torch.float32)
    wide = [filled(block_means(v), v.shape) for v in (x, newest, older)]
    expected = 0.1 * x + 2 * newest - older + 0.5 * wide[0] - 0.3 * wide[1] + 0.7 * wide[2]
    assert torch.allclose(got, expected, atol=1e-5)
    narrow = weigh(weights, x.bfloat16(), [newest.bfloat16(), older.bfloat16()], means, torch.bfloat16)
    assert narrow.dtype == torch.bfloat16 and torch.allclose(narrow.float(), expected, rtol=0.01, atol=0.1)
    block = wide[0][..., :4, :4]
    assert torch.allclose(block, x[..., :4, :4].mean((-1, -2), keepdim=True).expand_as(block), atol=1e-6)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_journal_gives_back_the_recordings_that_it_was_given(tmp_path, on_disk):
    journal = Journal(tmp_path / "notes" if on_disk else None, {"sampler": "Heun"}, {"history": 4})
    given = Reference([torch.arange(3.0), torch.ones(3)], [torch.ones(2)], torch.eye(2)[None], torch.zeros(1, 2))
    assert journal.reference(0) is None
    for back in (journal.keep_reference(0, given), *([journal.reference(0)] if on_disk else [])):
        assert [x.tolist() for x in back.xs] == [[0, 1, 2], [1, 1, 1]]
        assert torch.equal(back.first[0], given.first[0])
        assert torch.equal(back.trace, given.trace) and torch.equal(back.shifts, given.shifts)
    assert journal.reference(1) is None and journal.move((0, 3)) is None
    journal.keep_move((0, 3), torch.ones(2), 5)
    found = journal.move((0, 3))
    assert (found["move"].tolist(), found["spent"]) == ([1, 1], 5) if on_disk else found is None


class Table:
    """A replay that knows the error of every plan."""

    def __init__(self, count, error):
        self.count, self.error, self.asked = count, error, set()

    def errors(self, plans):
        self.asked |= set(plans)
        return [self.error(plan) for plan in plans]


def test_a_search_finds_the_best_of_all_plans():
    def error(nodes):
        return 1 + abs(nodes[1] - 6) * (1 + nodes[2] % 3) + (nodes[2] - 9) ** 2 + 5 * (nodes[1] % 2)

    everything = sorted(((0, *rest) for rest in itertools.combinations(range(1, 15), 2)), key=error)
    found = promising(Table(15, error), [(0, 1, 2)], 3)
    assert found[0] == everything[0] and len(found) == 3
    assert [error(plan) for plan in found] == [error(plan) for plan in everything[:3]]


def test_a_budget_of_one_call_has_one_plan():
    assert promising(Table(15, len), [(0,)], 4) == [(0,)]


def test_plans_that_are_replayed_together_have_the_errors_that_each_has_alone():
    rng = torch.Generator().manual_seed(0)
    tensors = torch.randn(2, 7 + 2 * 6, 50, generator=rng, dtype=torch.float64)
    shifts = torch.randn(2, 6, 3, 20, generator=rng, dtype=torch.float64)
    make = lambda: Replay(tensors @ tensors.mT / 50, shifts @ shifts.mT, 2, 3)  # noqa: E731
    plans = [(0, *rest) for rest in itertools.combinations(range(1, 6), 3)]
    assert make().errors(plans) == pytest.approx([make().error(plan) for plan in plans], rel=1e-6)
    assert make().errors(plans[::-1]) == pytest.approx(make().errors(plans)[::-1], rel=1e-6)


@pytest.mark.parametrize(("own", "least", "most"), [(0.0, 0, 1e-9), (1.0, 0.5, 4)])
def test_a_replay_is_exact_but_for_what_outputs_do_that_nothing_foretells(own, least, most):
    """The last x is a sum of outputs 0 and 2. That at 2 is asked for at an x off by 1; ``own`` of that goes its own way."""
    tensors = torch.eye(7, dtype=torch.float64)
    tensors[3] = 0.5 * tensors[4] + 2 * tensors[6]  # of 0 to 3, the x; 4 to 6 are the outputs
    shifts = torch.tensor([[1.0, 0.0], [0.0, own]], dtype=torch.float64).expand(1, 3, 2, 2)
    replay = Replay((tensors @ tensors.T)[None], shifts, 1, 3)
    assert least <= replay.error((0, 2)) < most
    assert replay.error((0, 1)) == pytest.approx(4, rel=1e-3)


def test_walks_say_which_nodes_a_replay_takes_for_too_good():
    foretold = {(0, a, b): 10 ** -(0.1 * (a + b)) for a, b in itertools.combinations(range(1, 9), 2)}
    truth = {plan: sum(plan) - 9 * (8 in plan) for plan in foretold}
    walked = {plan: truth[plan] for plan in sorted(foretold, key=foretold.get)[:2]}
    assert all(8 in plan for plan in walked)
    while 8 in (following := likeliest(foretold, walked)):
        walked[following] = truth[following]
    assert len(walked) < 7 and following == (0, 6, 7)
    assert likeliest({(0, 3): 1.0}, {(0, 3): 40.0}) is None


@pytest.mark.parametrize("calls", range(1, 21))
def test_a_first_plan_has_as_many_calls_as_were_asked_for(calls):
    first, last = 40 ** (1 / 7), 0.002 ** (1 / 7)
    sigmas = [*((first + (last - first) * i / 19) ** 7 for i in range(20)), 0.0]
    plan = initial_plan(sigmas, calls)
    assert len(plan) == calls and plan[0] == 0 and list(plan) == sorted(set(plan)) and plan[-1] < 20


def test_a_journal_knows_the_plans_of_their_own_options_and_length(tmp_path):
    job = {"sampler": "Heun"}
    Journal(tmp_path, job, {"history": 4}).keep_plan((0, 3, 11), 41.5)
    Journal(tmp_path, job, {"history": 2}).keep_plan((0, 3, 12), 40.0)
    again = Journal(tmp_path, job, {"history": 4})
    again.keep_plan((0, 7), 30.0)
    assert again.plans(3) == {(0, 3, 11): 41.5} and again.plans(2) == {(0, 7): 30.0} and again.plans(4) == {}
    with pytest.raises(ValueError, match="another calibration"):
        Journal(tmp_path, {"sampler": "Euler"}, {"history": 4})


def test_a_plan_of_another_length_keeps_or_gives_up_what_is_liked_best():
    guess = lambda plan: sum(abs(node - 6) for node in plan)  # noqa: E731
    assert resized((0, 4, 9), 5, 12, guess) == (0, 4, 5, 6, 9)
    assert resized((0, 4, 5, 6, 11), 3, 12, guess) == (0, 5, 6)
    assert resized((0, 4), 2, 12, guess) == (0, 4)
