"""Learning beside other threads that sample with the same guider, or draw random numbers."""

import pytest
import torch

from lessons import CALLS, LEARN, on_another, problem_of
from loops import in_a_thread
from problems import sampler

LEARNING = 45  # a call that is made to learn: the picture is done with 39


def beside(work, at=LEARNING):
    """(the guider, the problem) after a first picture, in the middle of whose calls another thread does ``work(guider)``."""
    problem, built, made = problem_of(), sampler("HeunEDMSampler", **LEARN), 0

    def denoiser(x, sigma, cond):
        nonlocal made
        made += 1
        if made == at:
            in_a_thread(work, built.guider)
        return problem(x, sigma, cond)

    built(denoiser, *problem.inputs())
    return built.guider, problem


def test_noise_that_another_thread_draws_meanwhile_is_not_drawn_again():
    drawn = []
    beside(lambda _: drawn.append(torch.randn(2)))
    assert not torch.equal(drawn[0], torch.randn(2))


def test_a_report_that_is_read_meanwhile_is_of_the_picture():
    seen = []
    guider, _ = beside(lambda guider: seen.append(guider.report))
    assert len(seen[0].visits) == 39 and guider.report is seen[0]


@pytest.mark.parametrize("at", [LEARNING, 20])
def test_a_scale_that_another_thread_sets_holds_and_nothing_is_learnt_of_the_one_before(at):
    alone = problem_of()
    inputs = alone.inputs(seed=3)
    expected = sampler("EulerEDMSampler", **{**LEARN, "scale": 5.0})(alone, *inputs)
    pictures = []

    def work(guider):
        guider.scale = 5.0
        pictures.append(on_another("EulerEDMSampler", guider)(alone, *inputs))

    guider, problem = beside(work, at)
    assert guider.scale == 5.0 and torch.equal(pictures[0], expected)
    guider.scale = LEARN["scale"]
    before = problem.calls
    on_another("HeunEDMSampler", guider)(problem, *problem.inputs())
    assert problem.calls - before > 39 and guider.report.learnt.calibration is not None  # it is learnt now


def test_a_full_run_does_not_say_that_it_went_by_what_another_thread_has_learnt_since():
    problem, built = problem_of(), sampler("HeunEDMSampler", **LEARN)
    first, second = (on_another("HeunEDMSampler", built.guider) for _ in range(2))
    made = first.get_sigma_gen

    def later(count):
        in_a_thread(second, problem, *problem.inputs(seed=1))
        return made(count)

    first.get_sigma_gen = later
    first(problem, *problem.inputs(seed=2))
    assert (built.guider.report.calls, built.guider.report.learnt) == (39, None)


def test_a_ctrl_c_as_learning_begins_leaves_it_to_the_next_picture():
    class Interrupted:
        times = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            Interrupted.times += 1
            if Interrupted.times == 1:
                raise KeyboardInterrupt  # what a signal's handler does where a lock is let go of

    problem, built = problem_of(), sampler("HeunEDMSampler", **LEARN)
    built.guider._learner._lock = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        built(problem, *problem.inputs(seed=1))
    built(problem, *problem.inputs(seed=1))
    assert built.guider.report.learnt.calibration is not None
    before = problem.calls
    built(problem, *problem.inputs(seed=2))
    assert problem.calls - before == CALLS


def test_a_scale_that_another_thread_sets_while_a_file_is_checked_costs_no_picture(tmp_path, caplog):
    path = str(tmp_path / "learnt.yaml")
    problem, built = problem_of(), sampler("HeunEDMSampler", **{**LEARN, "learn": path})
    built(problem, *problem.inputs())
    again, asked = sampler("HeunEDMSampler", **{**LEARN, "learn": path}), []

    def denoiser(x, sigma, cond):
        if not asked:  # the call that the file is checked by
            in_a_thread(setattr, again.guider, "scale", 5.0)
        asked.append(sigma)
        return problem(x, sigma, cond)

    assert again(denoiser, *problem.inputs(seed=2)).isfinite().all() and "changed meanwhile" in caplog.text
