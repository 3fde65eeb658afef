"""The parts of a calibration, each on its own: solves, stepping, answers, search, the journal."""

import itertools
import random

import pytest
import torch

from taylorseer_guider.calibration.journal import Journal
from taylorseer_guider.calibration.ode import Reference, Walker, calls_at, stops
from taylorseer_guider.calibration.plans import anneal, grown, initial_plan, neighbours
from taylorseer_guider.calibration.squares import gram, ridge, solve
from taylorseer_guider.forecast import Weights, block_means, filled, weigh

SIGMAS = (4.0, 1.0, 0.1, 0.0)


def test_solving_finds_the_weights_that_made_the_target():
    rng = torch.Generator().manual_seed(0)
    regressors = [torch.randn(3, 50, generator=rng, dtype=torch.float64) for _ in range(4)]
    regressors[0] *= 40  # x at the first sigma
    made = [0.3, -1.5, 2.0, 0.2]
    target = sum(weight * regressor for weight, regressor in zip(made, regressors, strict=True))
    weights, mean_square = solve(gram([*regressors, target]))
    assert weights == pytest.approx(made, rel=1e-6)
    assert mean_square < 1e-12 * float(target.square().mean())


def test_a_regressor_given_twice_or_of_zeros_is_no_trouble():
    v = torch.randn(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights, _ = solve(gram([v, v, torch.zeros_like(v), 3 * v]))
    assert sum(weights[:2]) == pytest.approx(3, rel=1e-4)


def test_a_stronger_ridge_is_chosen_where_samples_are_few_and_noisy():
    rng = torch.Generator().manual_seed(1)
    base = torch.randn(8, 6, generator=rng, dtype=torch.float64)
    near = [base + 1e-4 * torch.randn(8, 6, generator=rng, dtype=torch.float64) for _ in range(4)]
    target = base + 0.05 * torch.randn(8, 6, generator=rng, dtype=torch.float64)
    grams = gram([*near, target])
    weights, _ = solve(grams)
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


def test_annealing_finds_the_best_of_all_plans():
    def error(nodes):
        return 1 + abs(nodes[1] - 6) * (1 + nodes[2] % 3) + (nodes[2] - 9) ** 2 + 5 * (nodes[1] % 2)

    best = min(((0, *rest) for rest in itertools.combinations(range(1, 15), 2)), key=error)
    seen = {}
    anneal(lambda nodes: seen.setdefault(nodes, error(nodes)), (0, 1, 2), 15, random.Random(0))
    assert min(seen, key=seen.get) == best
    assert all(nodes[0] == 0 and len(nodes) == 3 for nodes in seen)


def test_hill_climbing_ends_at_the_number_of_walks_or_when_nothing_is_left():
    tried = {(0, 3): 1.0}
    for plan in neighbours(tried, 20, 6, lambda nodes: nodes[1], 0):
        assert plan not in tried
        tried[plan] = float(plan[1])
    assert len(tried) == 6
    few = {(0, 1): 1.0}
    for plan in neighbours(few, 3, 50, sum, 0):
        few[plan] = 0.0
    assert set(few) == {(0, 1), (0, 2)}


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


def test_a_grown_plan_keeps_its_nodes_and_the_best_come_first():
    best = grown((0, 4, 9), calls=5, count=12, guess=lambda plan: sum(abs(node - 6) for node in plan), keep=3)
    assert best[0] == (0, 4, 5, 6, 9) or best[0] == (0, 4, 6, 7, 9)
    assert len(best) == 3 and all({0, 4, 9} < set(plan) and len(plan) == 5 for plan in best)
    assert len(grown((0,), calls=6, count=12, guess=sum, keep=1)[0]) == 6
