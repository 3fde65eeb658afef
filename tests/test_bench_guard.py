"""The guard that was tried: as it is without surprise, all the way theory, and in between; its calls counted."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import benchmark
from bench import fits, guard
from bench.store import contents
from bench.workloads import mixture, sampler_of
from taylorseer_guider import calibrate
from taylorseer_guider.plan import evenly

BATCH = mixture.training(2.5, 4)
RUNS = [{"x": BATCH.noise, "cond": BATCH.cond, "uc": BATCH.uc}]


@cache
def calibrated():
    return calibrate(sampler_of(BATCH, {}), BATCH.network, RUNS, calls=guard.BUDGET, low=True, refine=2, progress=False)


def ended(workload, **options):
    return sampler_of(workload, options)(workload.network, workload.noise, workload.cond, workload.uc)


@pytest.mark.slow
def test_with_nothing_too_much_it_ends_where_the_calibrated_guider_does(tmp_path):
    calibrated().save(tmp_path / "calibration.yaml")
    workload = mixture.held_out(2.5, 2)
    x, grams = guard.walked(workload, calibrated())
    assert (workload.calls, len(grams)) == (guard.BUDGET, guard.BUDGET - 1)
    assert torch.allclose(x, ended(workload, calibration=str(tmp_path / "calibration.yaml")), atol=1e-4)


@pytest.mark.slow
def test_by_theory_from_the_start_it_ends_where_calls_alone_do(monkeypatch):
    even = tuple(evenly(calibrated().fitted.sigmas[:-1], guard.BUDGET).values())
    problem, solver = guard.posed(mixture.held_out(2.5, 2), calibrated())
    monkeypatch.setattr(guard, "posed", lambda *_: (problem, replace(solver, sigmas=torch.tensor(even, dtype=torch.float64))))
    x, _ = guard.walked(None, calibrated(), 0)
    assert torch.allclose(x, ended(mixture.held_out(2.5, 2), calls=guard.BUDGET), atol=1e-4)


@pytest.mark.slow
def test_theory_goes_on_from_where_a_surprise_was():
    problem, solver = guard.posed(mixture.held_out(2.5, 2), calibrated())
    found = guard.gone_over(problem, solver, 3, 0)
    theory = problem.rows((*solver.sigmas.tolist(), 0.0), range(guard.BUDGET))
    same = [[torch.equal(row, other) for row, other in zip(found.rows, rows, strict=True)] for rows in (solver.rows, theory)]
    assert same[0] == [n < 3 for n in range(guard.BUDGET)] and same[1][4:] == [True] * 4 and not same[1][3]


@pytest.mark.slow
def test_the_farthest_of_the_fitted_pictures_is_what_surprise_is_told_in():
    expected = guard.expectations(calibrated(), BATCH)
    grams = guard.walked(BATCH, calibrated())[1]
    farthest = [float(each.surprise(gram).max()) for each, gram in zip(expected, grams, strict=True)]
    assert farthest == pytest.approx([1.0] * len(grams))


@pytest.mark.slow
def test_pictures_that_surprise_go_on_otherwise_with_more_calls_and_the_others_as_they_were():
    expected, others = guard.expectations(calibrated(), BATCH), mixture.training(2.5, 4, seed=1)
    calm, grams = guard.walked(others.part(slice(None)), calibrated())
    surprise = torch.stack([each.surprise(gram) for each, gram in zip(expected, grams, strict=True)]).amax(0)
    times = float(surprise.sort().values[:2].mean())  # too much for all but one of four
    (x, calls, *_), switched, _ = guard.ruled(others, calibrated(), expected, times, 4, False)
    changed = (x != calm).flatten(1).any(1)
    assert switched == 3 and calls == guard.BUDGET + 4 * 3 / 4
    assert torch.equal(changed, surprise > times)


def test_more_calls_split_the_widest_gaps_that_are_ahead():
    sigmas = [40.0, 10.0, 9.0, 1.0, 0.9]
    assert guard.with_more(sigmas, 1, 1) == (40.0, 10.0, 9.0, 3.0, 1.0, 0.9)
    found = guard.with_more(sigmas, 1, 3)
    assert list(found) == sorted({*sigmas, *found}, reverse=True) and len(found) == 8 and found[1] == 10.0
    assert guard.with_more(sigmas, 4, 4) == tuple(sigmas)  # there is no gap ahead


@pytest.mark.slow
def test_the_command_tells_what_each_rule_did_and_goes_on_from_its_rows(tmp_path, capsys, monkeypatch, coarsely):
    coarsely(guard, 20)
    monkeypatch.setattr(fits, "GRADIENTS", 0)
    options = ["--workloads", "mixture", "--pictures", "2", "--training", "4", "--out-dir", str(tmp_path)]
    assert benchmark.main(["guard", *options]) == 0
    shown = capsys.readouterr().out
    assert "fitted on 4" in shown and all(label in shown for label, _ in guard.RULES)
    assert len(shown.split("surprise of the worst as calibrated, fitted on 4, at calls 2 to 8:")[1].split()) == guard.BUDGET - 1
    calm, theirs = (shown.splitlines()[n].split() for n in (2, 3))
    assert calm[-3:] == ["0", "0", "8.0"] and (theirs[-3], theirs[-1]) == ("2", "8.0")
    monkeypatch.setattr(guard, "ruled", None)
    assert benchmark.main(["guard", *options]) == 0 and capsys.readouterr().out == shown


def test_the_page_shows_what_its_rows_say():
    folder = Path(guard.__file__).parent
    page = (folder / "README.md").read_text()
    for name, scale in (("mixture", 2.5), ("hsc64", 1.0)):
        table = guard.table(name, scale, contents(folder / "results" / f"guard-{name}-{scale:g}.jsonl")[0][1:])
        assert all(line in page for line in table.splitlines())
