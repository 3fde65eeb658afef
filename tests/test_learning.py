"""What the guider learns from its first picture, on denoisers whose solution is known. Its file: test_learning_file.py."""

import copy
import gc
import logging
import pickle
import threading

import pytest
import torch

from lessons import CALLS, FULL, HOSTS, LEARN, SCALE, counted, on_another, problem_of, taught, worst
from loops import by_hand, last, said
from problems import IDENTITY, VANILLA, GaussianMixture, decibels, sample, sampler
from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider import learnt as learnt_module
from taylorseer_guider.calibration import learn as laboratory
from taylorseer_guider.standalone import mixture

# What is learnt, what it costs, and how good it is.


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("scale", [1, SCALE])
def test_the_first_picture_is_the_hosts_and_learning_costs_no_more_than_it(name, scale):
    problem, built = problem_of(), sampler(name, **{**LEARN, "scale": scale})
    inputs = problem.inputs()
    own = sample(name, problem, IDENTITY if scale == 1 else VANILLA, inputs, **({} if scale == 1 else {"scale": scale}))[0]
    first, calls = counted(built, problem, inputs)
    assert torch.equal(first, own)
    report = built.guider.report
    assert report.calls == FULL[name] and calls == report.calls + report.learnt.cost <= 2 * FULL[name]
    later, calls = counted(built, problem, problem.inputs(seed=5))
    assert calls == built.guider.report.calls == CALLS
    assert built.guider.report.learnt is report.learnt and torch.isfinite(later).all()


@pytest.mark.parametrize("name", FULL)
def test_what_was_learnt_is_better_on_other_pictures_than_calls_alone(name):
    """In the mean; the worst of many may lose a little, since one picture has not seen what it decides."""
    problem, built = taught(name)
    inputs = problem.inputs(50, seed=9)
    exact = sample("HeunEDMSampler", problem, VANILLA, inputs, num_steps=300, scale=SCALE)[0]
    alone = sample(name, problem, inputs=inputs, scale=SCALE, calls=CALLS)[0]
    learnt = built(problem, *inputs)
    assert decibels(learnt, exact) > decibels(alone, exact) + 1 and worst(learnt, exact) > worst(alone, exact) - 3


@pytest.mark.parametrize("name", FULL)
def test_weights_of_what_a_picture_shows_nothing_of_stay_where_they_are(name):
    """One that has but one image: its outputs never turn."""
    _, built = taught(name, GaussianMixture(spread=1e-3, components=1))
    other, inputs = problem_of(), problem_of().inputs(20, seed=9)
    exact = sample("HeunEDMSampler", other, VANILLA, inputs, num_steps=300, scale=SCALE)[0]
    alone = sample(name, other, inputs=inputs, scale=SCALE, calls=CALLS)[0]
    learnt = built(other, *inputs)
    assert worst(learnt, exact) > worst(alone, exact) - 1


def test_it_may_end_nearer_to_the_solution_than_the_run_it_was_learnt_from():
    """The target is not the host's own run: its error is corrected from the outputs that it left."""
    problem = problem_of()
    inputs = problem.inputs(50, seed=9)
    exact = sample("HeunEDMSampler", problem, VANILLA, inputs, num_steps=300, scale=SCALE)[0]
    full = sample("HeunEDMSampler", problem, VANILLA, inputs, scale=SCALE)[0]
    run = []
    guider = TaylorSeerGuider(**LEARN)
    guider.learn_from = run.append
    host = sampler("HeunEDMSampler")
    host.guider = guider
    host(problem, *inputs)
    recollection = laboratory.Lesson(guider, run[0]).recollection
    corrected = recollection.corrected()[-1].reshape(full.shape)
    assert decibels(corrected, exact) > decibels(full, exact) + 10


@pytest.mark.parametrize("calls", [1, 20])
def test_any_number_of_calls_is_learnt_for(calls):
    problem, built = taught(calls=calls)
    assert built.guider.report.learnt.reason is None and problem.calls <= 78
    assert counted(built, problem, problem.inputs(seed=3))[1] == calls


def test_random_numbers_go_on_as_if_nothing_had_been_learnt():
    def noisy(x, sigma, cond):
        torch.rand(1)
        return problem(x, sigma, cond)

    problem = problem_of()
    drawn = []
    for options in (LEARN, {"scale": SCALE, "use_cache": False}):
        torch.manual_seed(3)
        sampler("HeunEDMSampler", **options)(noisy, *problem.inputs())
        drawn.append(torch.rand(1))
    assert torch.equal(*drawn)


def test_what_is_learnt_is_said(caplog):
    with caplog.at_level(logging.INFO, logger="taylorseer_guider"):
        problem, built = taught()
    learnt = built.guider.report.learnt
    assert [record.getMessage() for record in caplog.records] == [str(learnt)]
    assert str(learnt) in str(built.guider.report)
    assert learnt.samples == 2 and learnt.db > learnt.alone_db and len(learnt.nodes) == CALLS
    assert built.guider.report.to_dict()["learnt"]["nodes"] == list(learnt.nodes)
    built(problem, *problem.inputs(seed=4))
    assert {visit.reason for visit in built.guider.report.visits} == {"learnt"}


# Whose it is: a kind of run, a guider.


@pytest.mark.parametrize("change", ["size", "scale"])
def test_another_kind_of_run_is_learnt_anew_and_the_first_stays_known(change):
    problem, built = taught()
    other = problem_of(shape=(3, 6, 6)) if change == "size" else problem
    if change == "scale":
        built.guider.scale = 3.0
    _, calls = counted(built, other, other.inputs())
    assert 39 == built.guider.report.calls < calls <= 78
    assert counted(built, other, other.inputs(seed=3))[1] == CALLS
    built.guider.scale = SCALE
    assert counted(built, problem, problem.inputs(seed=3))[1] == CALLS


@pytest.mark.parametrize("name", FULL)
def test_what_one_sampler_teaches_serves_all_four_over_any_number_of_steps(name):
    """They end at one picture, since what is followed is what was learnt and not the host's steps."""
    problem, built = taught(name)
    inputs, learnt = problem.inputs(seed=5), built.guider.report.learnt
    expected = built(problem, *inputs)
    for other in HOSTS:
        for steps in (9, 20, 35):
            result, calls = counted(on_another(other, built.guider, steps), problem, inputs)
            assert calls == CALLS and built.guider.report.learnt is learnt
            assert {visit.reason for visit in built.guider.report.visits} == {"learnt"}
            torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)


def test_a_schedule_that_it_cannot_serve_is_learnt_anew():
    problem, built = taught()
    built.discretization.sigma_max = 80.0
    assert counted(built, problem, problem.inputs())[1] > 39
    assert counted(built, problem, problem.inputs(seed=3))[1] == CALLS


def test_what_was_learnt_on_hardly_more_nodes_than_calls_does_not_serve_more(tmp_path, monkeypatch):
    """From 5 nodes nobody can tell where 5 calls should lead: on a finer schedule that is behind `calls` alone."""
    monkeypatch.setattr(learnt_module, "CLEAR", 0.0)
    problem, built = problem_of(spread=0.6), sampler("HeunEDMSampler", num_steps=5, **{**LEARN, "calls": 5})
    built(problem, *problem.inputs(seed=1))
    built.guider.report.learnt.calibration.save(tmp_path / "learnt.yaml")
    inputs = problem.inputs(50, seed=9)
    exact = sample("HeunEDMSampler", problem, VANILLA, inputs, num_steps=300, scale=SCALE)[0]
    alone = sample("HeunEDMSampler", problem, inputs=inputs, scale=SCALE, calls=5)[0]
    served = sample("HeunEDMSampler", problem, inputs=inputs, scale=SCALE, calls=5, calibration=tmp_path / "learnt.yaml")[0]
    assert worst(served, exact) < worst(alone, exact) - 3
    assert counted(on_another("EulerEDMSampler", built.guider, 5), problem, problem.inputs(seed=3))[1] == 5
    assert counted(on_another("HeunEDMSampler", built.guider, 20), problem, problem.inputs(seed=3))[1] > 39


def test_a_sampler_that_cannot_be_asked_again_goes_by_calls_alone_until_another_has_been_learnt_from(caplog):
    problem, multistep = problem_of(), sampler("LinearMultistepSampler", **LEARN)
    plain = sample("LinearMultistepSampler", problem, scale=SCALE, calls=CALLS)[0]
    for _ in range(2):
        result, calls = counted(multistep, problem, problem.inputs())
        assert calls == CALLS and torch.equal(result, plain) and multistep.guider.report.learnt is None
    (warning,) = said(caplog)
    assert "nothing is learnt from LinearMultistepSampler" in warning.getMessage() and "until Heun's" in warning.getMessage()
    on_another("DPMPP2MSampler", multistep.guider)(problem, *problem.inputs(seed=1))
    result, calls = counted(multistep, problem, problem.inputs())
    assert calls == CALLS and not torch.equal(result, plain) and multistep.guider.report.learnt.calibration is not None


def test_a_run_that_taught_nothing_is_served_by_what_another_taught_since():
    problem, built = problem_of(), sampler("EulerEDMSampler", **LEARN)
    last(by_hand(built, problem, *problem.inputs()))
    assert built.guider.report.learnt.reason
    on_another("HeunEDMSampler", built.guider)(problem, *problem.inputs(seed=1))
    built(problem, *problem.inputs())
    assert built.guider.report.learnt.reason is None and built.guider.report.visits[0].reason == "learnt"


def test_batches_of_another_length_are_the_same_kind():
    problem, built = taught()
    assert counted(built, problem, problem.inputs(5, seed=3))[1] == CALLS


def test_two_models_in_one_process_share_nothing():
    first, one = taught()
    second, two = problem_of(shape=(3, 4, 4)), sampler("HeunEDMSampler", **LEARN)
    second.means = second.means.flip(0) * 0.5
    assert counted(two, second, second.inputs(seed=1))[1] > 39
    again, alone = one(first, *first.inputs(seed=2)), taught()[1](first, *first.inputs(seed=2))
    assert torch.equal(again, alone)
    for copied in (copy.deepcopy(one.guider), pickle.loads(pickle.dumps(one.guider))):
        one.guider = copied
        assert counted(one, first, first.inputs(seed=2))[1] > 39


# Runs that are interrupted, driven by hand, or made together.


def alive(shape):
    gc.collect()
    return sum(type(thing) is torch.Tensor and thing.shape == shape for thing in gc.get_objects())


class Stopped(Exception):
    """The host's own trouble."""


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
@pytest.mark.parametrize("at", [5, 39, 50])
def test_an_interrupted_first_run_leaves_nothing(tmp_path, error, at):
    path = tmp_path / "learnt.yaml"
    problem, built = problem_of(), sampler("HeunEDMSampler", **{**LEARN, "learn": str(path)})

    def failing(x, sigma, cond):
        if problem.calls == at - 1:
            raise error
        return problem(x, sigma, cond)

    if at > 39 and error is Stopped:  # while it is learnt: the picture is there already
        assert torch.equal(
            built(failing, *problem.inputs()), sampler("HeunEDMSampler", VANILLA, scale=SCALE)(problem, *problem.inputs())
        )
        assert not list(tmp_path.iterdir()) and built.guider.report.learnt.calibration is None
        return
    with pytest.raises(error):
        built(failing, *problem.inputs())
    assert not list(tmp_path.iterdir())
    problem.calls = 0
    assert counted(built, problem, problem.inputs())[1] > 39 and path.exists()


def test_a_loop_that_is_left_teaches_nothing_and_leaves_nothing():
    problem, built = problem_of(shape=(3, 5, 9)), sampler("HeunEDMSampler", **LEARN)
    before = alive((2, 3, 5, 9))
    loop = by_hand(built, lambda x, sigma, cond: mixture.GaussianMixture.__call__(problem, x, sigma, cond), *problem.inputs())
    next(loop)
    loop.close()
    del loop
    assert alive((2, 3, 5, 9)) == before
    assert counted(built, problem, problem.inputs())[1] > 39


@pytest.mark.parametrize("announced", [True, False])
def test_a_loop_by_hand_is_learnt_from_without_a_call(announced):
    problem, built = problem_of(), sampler("HeunEDMSampler", **LEARN)
    full = sampler("HeunEDMSampler", VANILLA, scale=SCALE)(problem, *problem.inputs())
    problem.calls = 0
    assert torch.equal(last(by_hand(built, problem, *problem.inputs(), announced=announced)), full)
    assert problem.calls == 39 and built.guider.report.learnt.cost == 0
    inputs = problem.inputs(20, seed=9)
    learnt, calls = counted(built, problem, inputs)
    assert calls == CALLS
    exact = sample("HeunEDMSampler", problem, VANILLA, inputs, num_steps=300, scale=SCALE)[0]
    alone = sample("HeunEDMSampler", problem, inputs=inputs, scale=SCALE, calls=CALLS)[0]
    assert worst(learnt, exact) > worst(alone, exact) + 3


def test_a_recording_that_does_not_say_how_outputs_follow_x_teaches_nothing(caplog):
    problem, built = problem_of(), sampler("EulerEDMSampler", **LEARN)
    last(by_hand(built, problem, *problem.inputs()))
    assert "how outputs follow x" in said(caplog)[0].getMessage() and problem.calls == 20
    assert counted(built, problem, problem.inputs(seed=3))[1] == CALLS


def test_threads_that_begin_together_each_make_a_full_run_and_one_is_learnt_from():
    """The second of two first runs neither waits nor learns; afterwards both know."""
    problem, guider = problem_of(), TaylorSeerGuider(**LEARN)
    own = sampler("HeunEDMSampler", VANILLA, scale=SCALE)
    expected = [own(problem, *problem.inputs(seed=seed)) for seed in range(2)]
    start, calls, found = threading.Barrier(2), [0, 0], [None, None]

    def go(n):
        built = sampler("HeunEDMSampler")
        built.guider = guider

        def denoiser(x, sigma, cond):
            calls[n] += 1
            if calls[n] == 1:
                start.wait(60)
            return mixture.GaussianMixture.__call__(problem, x, sigma, cond)

        found[n] = built(denoiser, *problem.inputs(seed=n))

    threads = [threading.Thread(target=go, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(map(torch.equal, found, expected))
    assert all(39 <= count <= 78 for count in calls) and max(calls) > 39  # whoever comes second may find it learnt
    built = sampler("HeunEDMSampler")
    built.guider = guider
    assert counted(built, problem, problem.inputs(seed=3))[1] == CALLS
