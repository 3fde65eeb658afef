"""Runs that teach nothing, in part or at all: what is kept of them, and what the log says."""

import pytest
import torch

from lessons import CALLS, HOSTS, LEARN, SCALE, counted, on_another, problem_of, taught
from loops import said
from problems import VANILLA, GaussianMixture, decibels, sample, sampler
from taylorseer_guider import learning as learning_module
from taylorseer_guider.calibration import learn as laboratory
from taylorseer_guider.recording import Recording
from taylorseer_guider.standalone import sampling


class Deaf(GaussianMixture):
    """One whose outputs are not finite at the end."""

    def __call__(self, x, sigma, cond):
        output = super().__call__(x, sigma, cond)
        return output * torch.nan if float(sigma[0]) < 0.01 else output


def test_where_nothing_can_be_learnt_runs_go_by_calls_alone_and_the_log_says_why(caplog):
    problem, built = Deaf(), sampler("HeunEDMSampler", **LEARN)
    built(problem, *problem.inputs())
    assert "not finite" in said(caplog)[0].getMessage() and built.guider.report.learnt.calibration is None
    problem, built = problem_of(), sampler("HeunEDMSampler", **LEARN)
    built.__class__ = type("SteppingByItself", (type(built),), {"sampler_step": type(built).sampler_step})
    for _ in range(2):
        assert counted(built, problem, problem.inputs())[1] == CALLS
    assert len(said(caplog)) == 2 and "SteppingByItself cannot be calibrated" in said(caplog)[-1].getMessage()


def test_calls_alone_are_kept_where_they_are_not_beaten_and_a_file_says_so(monkeypatch, tmp_path):
    """To later guiders and other samplers, too, without a full run of theirs."""
    monkeypatch.setattr(
        laboratory.Lesson,
        "alone",
        lambda lesson, probe: lesson.run.recording.x * 0 + lesson.recollection.corrected()[-1].reshape(probe.x.shape),
    )
    path = str(tmp_path / "learnt.yaml")
    problem, built = taught(learn=path)
    inputs = problem.inputs(seed=4)
    for name in HOSTS:
        again = sampler(name, **{**LEARN, "learn": path})
        for one in (again, on_another(name, built.guider)):
            result, calls = counted(one, problem, inputs)
            assert calls == CALLS and torch.equal(result, sample(name, problem, inputs=inputs, scale=SCALE, calls=CALLS)[0])
            assert "not clearly beaten" in str(one.guider.report.learnt)


def test_a_guider_whose_scale_is_many_numbers_learns_nothing(caplog):
    problem, built = problem_of(), sampler("HeunEDMSampler", **LEARN)
    built.guider.__dict__["scale"] = torch.full((2, 1, 1, 1), SCALE, dtype=torch.float64)
    assert counted(built, problem, problem.inputs())[1] == CALLS and "nothing is learnt" in said(caplog)[0].getMessage()


class Cut:
    """A schedule that stops short of 0."""

    def __call__(self, n, device="cpu"):
        return sampler("HeunEDMSampler").discretization(20)[:12]


def test_a_schedule_that_does_not_end_at_0_goes_by_calls_alone(caplog):
    problem, built = problem_of(), sampler("HeunEDMSampler", **{**LEARN, "calls": 5})
    built.discretization = Cut()
    assert [counted(built, problem, problem.inputs(seed=seed))[1] for seed in range(3)] == [5, 5, 5]
    assert [each.getMessage().count("ends at sigma 0.7059, not at 0") for each in said(caplog)] == [1]


class PreparesByItsBase(sampling.HeunEDMSampler):
    def prepare_sampling_loop(self, *args, **kwargs):
        return super().prepare_sampling_loop(*args, **kwargs)


def test_a_sampler_that_prepares_by_its_bases_method_learns_once(monkeypatch, caplog):
    monkeypatch.setattr(sampling, "PreparesByItsBase", PreparesByItsBase, raising=False)
    problem, built = taught("PreparesByItsBase")
    assert not said(caplog) and counted(built, problem, problem.inputs(seed=3))[1] == CALLS
    built.guider.scale = 3.0
    assert counted(built, problem, problem.inputs(seed=3))[1] > 39


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_run_teaches_too(dtype):
    problem, built = taught(problem=problem_of(dtype=dtype))
    assert built.guider.report.learnt.calibration is not None
    assert counted(built, problem, problem.inputs(seed=3))[1] == CALLS


class Renames(sampling.EulerEDMSampler):
    def denoise(self, x, model, sigma, cond, uc):
        return super().denoise(x, model, sigma, cond, uc)


def test_a_sampler_that_cannot_be_asked_is_said(monkeypatch, caplog):
    monkeypatch.setattr(sampling, "Renames", Renames, raising=False)
    problem, built = taught("Renames")
    assert "`denoise` of Renames has no argument 'denoiser'" in said(caplog)[0].getMessage()
    assert counted(built, problem, problem.inputs())[1] == CALLS


def test_a_schedule_that_goes_on_below_is_learnt_anew():
    problem, built = taught()
    built.discretization.sigma_min = 0.0005
    assert counted(built, problem, problem.inputs())[1] > 39


def test_a_recording_keeps_to_its_limit():
    recording = Recording(limit=1 << 20, count=42)
    x = torch.randn(4, 3, 64, 64)
    visit = type("Visit", (), {"step": 0, "sigma": 1.0})
    for _ in range(42):
        recording.take(visit, x, x, 1.0)
    held = sum(part.numel() * part.element_size() for each in recording.visits for part in (each.x, each.output))
    assert recording.fault is None and 0.9 * (1 << 20) < held <= 1 << 20
    recording.take(visit, x, x, 1.0)
    assert "more than 42 visits" in recording.fault and not recording.visits


def test_a_small_recording_teaches_too(monkeypatch):
    monkeypatch.setattr(learning_module, "LIMIT", 42 * 2 * 4 * 2 * 30)  # 30 of 48 elements of each sample
    problem, built = taught()
    inputs = problem.inputs(50, seed=9)
    exact = sample("HeunEDMSampler", problem, VANILLA, inputs, num_steps=300, scale=SCALE)[0]
    alone = sample("HeunEDMSampler", problem, inputs=inputs, scale=SCALE, calls=CALLS)[0]
    assert decibels(built(problem, *inputs), exact) > decibels(alone, exact)


@pytest.mark.parametrize(("times", "after"), [(1, CALLS), (9, CALLS)])
def test_a_scale_that_is_set_in_mid_run_once_costs_one_lesson(times, after, caplog):
    """A slider that is moved, and a host that sets another scale in the middle of every run."""
    problem, built, left = problem_of(), sampler("HeunEDMSampler", **LEARN), [times]

    def sliding(x, sigma, cond):
        if problem.calls % 2 and left[0] and 0.5 < float(sigma[0]) < 0.9:
            left[0] -= 1
            built.guider.scale = SCALE + 1 - built.guider.scale + SCALE
        return problem(x, sigma, cond)

    full = []
    for seed in range(4):
        before = problem.calls
        built(sliding, *problem.inputs(seed=seed))
        full.append(problem.calls - before)
    assert full[0] == 39 and full[-1] == after, full
    assert "the next one is a full run" in caplog.text
    assert (built.guider.report.learnt.calibration is not None) == (times == 1)
