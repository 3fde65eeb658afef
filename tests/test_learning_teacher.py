"""What is aimed at where the guider learns: a run of its own, by `calls` alone, with the calls that learning has left."""

import json
from dataclasses import replace

import pytest
import torch

from lessons import CALLS, FULL, SCALE, counted, problem_of, worst
from problems import VANILLA, GaussianMixture, decibels, sample, sampler
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


@pytest.mark.parametrize(("calls", "cost"), [(2, 9), (5, 27), (8, 39), (10, 39)])
@pytest.mark.parametrize("learn", [True, "learnt.yaml"])
def test_learning_costs_what_it_may_and_no_more_than_it_needs(calls, cost, learn, tmp_path):
    """Two walks, and four calls for each one of what is learnt, as far as the full run's own number goes."""
    file = learn is not True
    learn = str(tmp_path / learn) if file else True
    problem, built = problem_of(), sampler("HeunEDMSampler", scale=SCALE, calls=calls, learn=learn)
    expected = min(cost + file, FULL["HeunEDMSampler"])  # a file holds the fingerprint of one call
    assert counted(built, problem, problem.inputs())[1] == FULL["HeunEDMSampler"] + expected
    assert built.guider.report.learnt.cost == expected


def test_where_too_few_calls_are_left_the_recorded_run_is_aimed_at():
    """Of 20 that Euler's may cost, two walks of 8 calls leave 6: a run of 7 says less than the recording."""
    problem, built = problem_of(), sampler("EulerEDMSampler", scale=SCALE, calls=8, learn=True)
    assert counted(built, problem, problem.inputs())[1] == 20 + 2 * 7
    found, probe = lesson("EulerEDMSampler", problem, problem.inputs(), calls=8)
    assert found.teacher(probe, 15) is found.recollection and probe.calls == 0


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


def test_a_recorded_run_that_its_correction_moves_less_is_aimed_at():
    """Data far smaller than usual: the host's own nodes lie where outputs turn, and the spread of calls does not."""
    problem = problem_of(spread=0.002)
    problem.means = 0.003 * problem.means
    found, probe = lesson("HeunEDMSampler", problem, problem.inputs(2, seed=1))
    assert found.teacher(probe, 26) is found.recollection


@pytest.mark.parametrize(("calls", "steps", "spread"), [(9, 20, 0.1), (10, 20, 0.05), (10, 25, 0.05)])
def test_eulers_run_that_is_no_nearer_to_the_solution_than_calls_alone_is_not_gone_by(calls, steps, spread):
    """Too few calls are left for a run of its own, and the correction of Euler's is farther off than `calls` alone."""
    problem = GaussianMixture((3, 16, 16), components=4, spread=spread)
    inputs = problem.inputs(8, seed=5)
    built = sampler("EulerEDMSampler", num_steps=steps, scale=1, calls=calls, learn=True)
    built(problem, *problem.inputs(1, seed=20))
    assert "no nearer to the solution" in str(built.guider.report.learnt) and not built.guider.report.learnt.nodes
    alone = sampler("EulerEDMSampler", num_steps=steps, scale=1, calls=calls)
    assert torch.equal(built(problem, *inputs), alone(problem, *inputs))


@pytest.mark.parametrize("name", ["DPMPP2MSampler", "HeunEDMSampler"])
def test_a_first_picture_that_calls_alone_misses_altogether_does_not_decide_for_others(name):
    problem = GaussianMixture((3, 8, 8), components=12, spread=0.1)
    problem.means = torch.randn(problem.means.shape, generator=torch.Generator().manual_seed(0)).double() * 2
    found = []
    for seed in range(12):
        built = sampler(name, scale=1, calls=8, learn=True)
        built(problem, *problem.inputs(1, seed=seed))
        found.append(built.guider.report.learnt)
    assert all(("ends at another picture" in str(each)) == (each.alone_db < 5) for each in found)
    assert all(not each.better for each in found if each.alone_db < 5) and any(each.better for each in found)
    told = [json.loads(json.dumps(each.to_dict())) for each in found]
    assert all(bool(one["doubt"]) == (one["alone_db"] < 5) and one["parts_db"] is not None for one in told)
    gained_in_one_spot = replace(next(each for each in found if each.better), parts_db=-1.5)
    assert not gained_in_one_spot.better and "not clearly beaten all over the picture" in str(gained_in_one_spot)


def test_what_is_gained_in_one_spot_and_lost_elsewhere_is_no_gain():
    before, after = torch.full((1, 640), 0.1).double(), torch.full((1, 640), 0.2).double()
    before[:, :20], after[:, :20] = 10.0, 1.0  # one of 32 parts
    assert decibels(before, 0 * before) + 15 < decibels(after, 0 * after)
    assert laboratory.gained(before, after) < -4 < 6 == round(laboratory.gained(2 * after, after))
    assert 20 < laboratory.gained(before[:, 20:], 0 * after[:, 20:]) < 40  # what misses by nothing is not infinitely better


def test_x_of_one_number_is_no_lost_picture():
    problem, built = problem_of(shape=(1,)), sampler("HeunEDMSampler", scale=SCALE, calls=5, learn=True)
    built(problem, *problem.inputs(4, seed=1))
    learnt = built.guider.report.learnt
    assert learnt.doubt is None and learnt.better
