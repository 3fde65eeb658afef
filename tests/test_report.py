"""The report of a run: numbers that agree with each other, a table that fits a terminal, a dictionary that fits JSON."""

import json

import pytest

from problems import GaussianMixture, sample, sampler


def report():
    return sample("HeunEDMSampler", GaussianMixture(), interval=3, quantity="edm")[1].guider.report


def test_totals_are_those_of_the_visits():
    run = report()
    assert (run.calls, run.forecasts, len(run.visits)) == (7, 32, 39)
    assert all(visit.weight_sum is None for visit in run.visits if visit.action == "call")
    assert all(visit.weight_sum >= 1 - 1e-9 for visit in run.visits if visit.action == "forecast")
    assert run.denoiser_seconds > 0 and run.forecast_seconds > 0


def test_the_table_is_aligned_and_ends_with_the_totals():
    head, *rows, totals = str(report()).splitlines()
    assert len(rows) == 39
    column = head.index("action")
    assert all(row[column:].startswith(("call", "forecast")) for row in rows)
    assert "7 calls" in totals and "32 forecasts" in totals
    assert max(map(len, [head, *rows])) < 100


def test_the_dictionary_survives_json():
    run = report()
    again = json.loads(json.dumps(run.to_dict()))
    assert again == run.to_dict()
    assert again["calls"] == 7 and again["visits"][0]["sigma"] == run.visits[0].sigma


@pytest.mark.parametrize(("name", "steps", "held"), [("DPMPP2MSampler", 20, 2), ("LinearMultistepSampler", 2, 3)])
def test_the_peak_counts_what_a_multistep_run_remembers(name, steps, held):
    problem = GaussianMixture()
    x, *conditions = problem.inputs()
    built = sampler(name, scale=1.0, num_steps=steps, calls=1)
    built(problem, x, *conditions)
    assert built.guider.report.peak_bytes == held * x.numel() * x.element_size()
