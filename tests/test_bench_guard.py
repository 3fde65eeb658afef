"""The guard that was tried: as it is without surprise, all the way theory, and in between; its calls counted."""

from functools import cache

import pytest
import torch

import benchmark
from bench import fits, guard
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
    x, grams, over = guard.walked(workload, calibrated())
    assert (workload.calls, len(grams), over) == (guard.BUDGET, guard.BUDGET - 1, False)
    assert torch.allclose(x, ended(workload, calibration=str(tmp_path / "calibration.yaml")), atol=1e-4)


@pytest.mark.slow
def test_by_theory_from_the_start_it_ends_where_calls_alone_do():
    workload = mixture.held_out(2.5, 2)
    x, _, over = guard.walked(workload, calibrated(), theirs=True)
    nodes = list(calibrated().budgets[guard.BUDGET].nodes)
    assert over and torch.allclose(x, ended(workload, plan={"nodes": nodes}), atol=1e-4)


@pytest.mark.slow
def test_the_farthest_of_the_fitted_pictures_is_what_surprise_is_told_in():
    expected = guard.expectations(calibrated(), BATCH)
    grams = guard.walked(BATCH, calibrated())[1]
    assert [each.surprise(gram) for each, gram in zip(expected, grams, strict=True)] == pytest.approx([1.0] * len(grams))


@pytest.mark.slow
def test_a_surprise_changes_what_follows_and_buys_calls():
    expected, part = guard.expectations(calibrated(), BATCH), BATCH.part(slice(0, 1))
    calm, known = guard.walked(part, calibrated(), expected, 1.1)[::2], part.calls
    x, _, over = guard.walked(part, calibrated(), expected, 0.0, 4)
    assert (calm[1], known, over, part.calls - known) == (False, guard.BUDGET, True, guard.BUDGET + 4)
    assert not torch.allclose(x, calm[0], atol=1e-3)


def test_more_calls_split_the_widest_gaps_that_are_ahead():
    sigmas = [float(20 - n) for n in range(20)] + [0.0]
    nodes = guard.with_more((0, 5, 6, 16), 6, sigmas, 2)
    assert nodes[:4] == (0, 5, 6, 16) and len(set(nodes)) == 6 and all(6 < node < 20 for node in nodes[4:])
    assert guard.with_more((0, 18), 18, sigmas, 4) == (0, 18, 19)  # there are no more


@pytest.mark.slow
def test_the_command_tells_what_each_rule_did_and_goes_on_from_its_rows(tmp_path, capsys, monkeypatch):
    def coarse(workload, path, found=guard.references):
        workload.exact_steps = 20
        return found(workload, path)

    monkeypatch.setattr(guard, "references", coarse)
    monkeypatch.setattr(fits, "WALKS", 1)
    monkeypatch.setattr(fits, "GRADIENTS", 0)
    options = ["--workloads", "mixture", "--pictures", "2", "--training", "4", "--out-dir", str(tmp_path)]
    assert benchmark.main(["guard", *options]) == 0
    shown = capsys.readouterr().out
    assert "fitted on 4" in shown and all(label in shown for label, _ in guard.RULES)
    assert shown.splitlines()[2].split()[-2:] == ["0", "8.0"] and shown.splitlines()[3].split()[-2:] == ["2", "8.0"]
    monkeypatch.setattr(guard, "one_by_one", None)
    assert benchmark.main(["guard", *options]) == 0 and capsys.readouterr().out == shown
