"""The guard that was tried: as it is without surprise, all the way theory, and in between; its calls counted."""

from functools import cache
from pathlib import Path

import pytest
import torch

import benchmark
from bench import fits, guard
from bench.store import contents
from bench.workloads import mixture, sampler_of
from taylorseer_guider import calibrate

BATCH = mixture.training(2.5, 4)
RUNS = [{"x": BATCH.noise, "cond": BATCH.cond, "uc": BATCH.uc}]


@cache
def calibrated():
    return calibrate(sampler_of(BATCH, {}), BATCH.network, RUNS, calls=guard.BUDGET, low=True, walks=1, progress=False)


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
def test_by_theory_from_the_start_it_ends_where_calls_alone_do():
    workload = mixture.held_out(2.5, 2)
    x, _ = guard.walked(workload, calibrated(), theirs=True)
    nodes = list(calibrated().budgets[guard.BUDGET].nodes)
    assert torch.allclose(x, ended(workload, plan={"nodes": nodes}), atol=1e-4)


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
    changed = (x - calm).flatten(1).abs().amax(1) > 1e-3
    assert switched == 3 and calls == guard.BUDGET + 4 * 3 / 4
    assert torch.equal(changed, surprise > times) and torch.equal(x[~changed], calm[~changed])


def test_more_calls_split_the_widest_gaps_that_are_ahead():
    sigmas = [float(20 - n) for n in range(20)] + [0.0]
    nodes = guard.with_more((0, 5, 6, 16), 6, sigmas, 2)
    assert nodes[:4] == (0, 5, 6, 16) and len(set(nodes)) == 6 and all(6 < node < 20 for node in nodes[4:])
    assert guard.with_more((0, 18), 18, sigmas, 4) == (0, 18, 19)  # there are no more


@pytest.mark.slow
def test_the_command_tells_what_each_rule_did_and_goes_on_from_its_rows(tmp_path, capsys, monkeypatch, coarsely):
    coarsely(guard, 20)
    monkeypatch.setattr(fits, "WALKS", 1)
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
