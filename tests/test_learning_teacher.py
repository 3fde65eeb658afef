"""What is aimed at where the guider learns: a run of its own, by `calls` alone, with the calls that learning has left."""

import pytest

from lessons import CALLS, FULL, SCALE, counted, problem_of, worst
from problems import VANILLA, sample, sampler
from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider.calibration import learn as laboratory
from taylorseer_guider.standalone.discretization import EDMDiscretization


def lesson(name, problem, inputs, num_steps=20, calls=CALLS):
    """(the Lesson of a full run, that asks ``problem`` again, its Probe)."""
    runs = []
    guider = TaylorSeerGuider(scale=SCALE, calls=calls, learn=True)
    guider.learn_from = runs.append
    host = sampler(name, num_steps=num_steps)
    host.guider = guider
    host(problem, *inputs)
    found = laboratory.Lesson(guider, runs[0])
    return found, found.probe


@pytest.mark.parametrize(("name", "steps"), [("HeunEDMSampler", 20), ("EulerEDMSampler", 40)])
@pytest.mark.parametrize("spread", [0.05, 0.2, 0.8])
def test_it_is_nearer_to_the_solution_than_the_run_that_was_recorded(name, steps, spread):
    """In the picture that is farthest off, by much: there outputs do not follow x as in the others."""
    problem = problem_of(spread=spread)
    inputs = problem.inputs(20, seed=9)
    exact = sample("HeunEDMSampler", problem, VANILLA, inputs, num_steps=300, scale=SCALE)[0]
    found, probe = lesson(name, problem, inputs, steps)
    found.alone(probe)  # which says how outputs follow x, where the run does not
    ends = [
        path.corrected(found.recollection.sigmas)[-1].reshape(exact.shape)
        for path in (found.recollection, found.teacher(probe, 26))
    ]
    assert worst(ends[1], exact) > worst(ends[0], exact) + 5
    assert probe.calls == CALLS - 1 + 25  # the first output is known


@pytest.mark.parametrize("calls", [2, 5, 8, 10])
@pytest.mark.parametrize("learn", [True, "learnt.yaml"])
def test_all_calls_that_learning_may_cost_are_made_and_none_more(calls, learn, tmp_path):
    learn = learn if learn is True else str(tmp_path / learn)
    problem, built = problem_of(), sampler("HeunEDMSampler", scale=SCALE, calls=calls, learn=learn)
    assert counted(built, problem, problem.inputs())[1] == 2 * FULL["HeunEDMSampler"]
    assert built.guider.report.learnt.cost == FULL["HeunEDMSampler"]


def test_where_too_few_calls_are_left_the_recorded_run_is_aimed_at():
    """Of 20 that Euler's may cost, two walks of 8 calls leave 6: a run of 7 says less than the recording."""
    problem, built = problem_of(), sampler("EulerEDMSampler", scale=SCALE, calls=8, learn=True)
    assert counted(built, problem, problem.inputs())[1] == 20 + 2 * 7
    found, probe = lesson("EulerEDMSampler", problem, problem.inputs(), calls=8)
    assert found.teacher(probe, 15) is found.recollection and found.teacher(probe, 16) is not found.recollection


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_shortest_runs_teach_too(steps):
    problem, built = problem_of(), sampler("HeunEDMSampler", num_steps=steps, scale=SCALE, calls=1, learn=True)
    _, calls = counted(built, problem, problem.inputs())
    assert calls <= 2 * (2 * steps - 1) and built.guider.report.learnt.reason is None
    assert counted(built, problem, problem.inputs(seed=3))[1] == 1


@pytest.mark.parametrize("count", [1, 19, 20, 39, 40, 100])
def test_a_finer_schedule_has_room_and_the_sigmas_that_it_is_of(count):
    sigmas = tuple(EDMDiscretization(sigma_min=0.002, sigma_max=40.0)(20).tolist())
    assert sigmas[-1] == 0
    found = laboratory.finer(sigmas, count)
    assert len(found) > count and set(sigmas) <= set(found) and list(found) == sorted(found, reverse=True)
