"""The parts of a calibration, each on its own: solves, stepping, answers, theory, the journal."""

import itertools

import pytest
import torch

from taylorseer_guider.calibration.budgets import alone, resampled
from taylorseer_guider.calibration.journal import Journal
from taylorseer_guider.calibration.ode import Reference, Walker, stops
from taylorseer_guider.calibration.squares import gram, ridge, solve
from taylorseer_guider.forecast import Weights, block_means, filled, weigh
from taylorseer_guider.history import History
from taylorseer_guider.hosts import SAMPLERS
from taylorseer_guider.landing import unfitted
from taylorseer_guider.report import CALL, FORECAST, Visit
from taylorseer_guider.schedule import Schedule
from taylorseer_guider.settings import Settings

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
    assert weights == pytest.approx(made, rel=1e-3, abs=1e-4)
    assert mean_square < 1e-7 * float(target.square().mean())


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
def test_heuns_method_visits_every_node_but_the_first_and_the_last_again(method, visits):
    assert len(stops(method, SIGMAS)) == visits


def test_answering_with_the_target_lands_on_the_reference():
    rng = torch.Generator().manual_seed(0)
    x, references = torch.randn(2, 5, generator=rng), torch.randn(3, 2, 5, generator=rng)
    walker = Walker(x, x)
    for stop in stops("euler", SIGMAS):
        walker.advance(stop, walker.target(stop, references[stop.step]))
        assert torch.allclose(walker.at, references[stop.step], atol=1e-4)


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
    given = Reference([torch.arange(3.0), torch.ones(3)], [torch.ones(2)], (4.0, 0.0))
    assert journal.reference(0) is None
    for back in (journal.keep_reference(0, given), *([journal.reference(0)] if on_disk else [])):
        assert [x.tolist() for x in back.xs] == [[0, 1, 2], [1, 1, 1]]
        assert torch.equal(back.first[0], given.first[0])
        assert back.over([0.0]).xs[0].tolist() == [1, 1, 1]
    assert journal.reference(1) is None and journal.move(2) is None
    journal.keep_move(2, torch.ones(2), 5, -3.0)
    found = journal.move(2)
    assert (found["move"].tolist(), found["spent"]) == ([1, 1], 5) if on_disk else found is None


def test_a_journal_knows_the_moves_of_its_own_options_and_calls(tmp_path):
    job = {"sampler": "Heun"}
    Journal(tmp_path, job, {"history": 4}).keep_move(5, torch.ones(2), 3, -1.5)
    assert Journal(tmp_path, job, {"history": 4}).move(5)["least"] == -1.5
    assert Journal(tmp_path, job, {"history": 4}).move(6) is None and Journal(tmp_path, job, {"history": 2}).move(5) is None
    with pytest.raises(ValueError, match="another calibration.*sampler 'Heun' / 'Euler'"):
        Journal(tmp_path, {"sampler": "Euler"}, {"history": 4})


@pytest.mark.parametrize("calls", [3, 5, 9])
def test_sigmas_of_another_number_of_calls_fall_alike(calls):
    sigmas = [40.0, 10.0, 3.0, 1.0, 0.2]
    found = resampled(sigmas, calls, (80.0, 0.02, 0.0))
    assert len(found) == calls and found[0] == 80.0 and all(a > b for a, b in itertools.pairwise(found)) and found[-1] >= 0.02
    assert resampled(sigmas, 5, (40.0, 0.02, 0.0)) == sigmas


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_theory_is_what_calls_alone_answers_with(scale):
    """On a sampler whose nodes are the very sigmas that are called, and the one where the polynomial ends."""
    sigmas = [40.0, 10.0, 3.0, 1.0, 0.2]
    rows = alone((40.0, 0.02, 0.0), 5)((*sigmas, 0.0), range(5), scale)
    schedule = Schedule(torch.tensor([*sigmas, 0.02, 0.0]))
    policy = unfitted(Settings(calls=5), schedule, SAMPLERS["EulerEDMSampler"], scale)
    x, outputs, history = drawn(2, 7), drawn(5, 2, 7, seed=1), History(policy.keep.count)
    for n, (row, sigma) in enumerate(zip(rows, (*sigmas[:-1], 0.02), strict=True)):
        held = list(outputs[: n + 1].flip(0))
        called = Visit(n, sigmas[n], CALL, "", node=n)
        history.take(called, x, [outputs[n]], policy.keep, schedule)
        visit = called if n < 4 else Visit(5, sigma, FORECAST, "", node=5)
        theirs = policy.weights(visit, history)
        expected = outputs[n] if theirs is None else history.weighted(theirs, x)
        ours = row[0] * x + sum(weight * output for weight, output in zip(row[1:], held, strict=False))
        assert torch.allclose(ours, expected, atol=1e-12)


def test_a_recording_that_was_cut_short_is_made_again_and_a_broken_job_is_named(tmp_path, caplog):
    journal = Journal(tmp_path, {"steps": 3}, {})
    journal.keep_reference(0, Reference([torch.ones(2)], [torch.ones(2)], (1.0,)))
    journal.keep_move(4, torch.ones(2), 1, 0.0)
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:40])
    assert journal.reference(0) is None and journal.move(4) is None and "made again" in caplog.text
    (tmp_path / "job.json").write_text("[1")
    with pytest.raises(ValueError, match=r"job.json cannot be read \(.*\); empty it"):
        Journal(tmp_path, {"steps": 3}, {})
