"""Which later runs what was learnt serves, and where a run is too short to teach anything."""

import logging

import pytest
import torch

from lessons import LEARN, SCALE, counted, on_another, problem_of
from loops import said
from problems import VANILLA, GaussianMixture, decibels, sample, sampler
from taylorseer_guider import learnt as learnt_module
from taylorseer_guider.standalone import sampling
from taylorseer_guider.standalone.discretization import EDMDiscretization


@pytest.mark.parametrize(("nodes", "calls"), [(10, 8), (15, 8), (20, 11), (20, 19)])
def test_a_run_of_hardly_more_nodes_than_calls_teaches_nothing(nodes, calls, monkeypatch):
    """`calls` alone is nearer to the truth than such a run is, so that a gain towards what can be had from it means nothing."""
    monkeypatch.setattr(learnt_module, "CLEAR", -100.0)
    problem, built = problem_of(), sampler("HeunEDMSampler", num_steps=nodes, **{**LEARN, "calls": calls})
    built(problem, *problem.inputs())
    learnt = built.guider.report.learnt
    assert learnt.calibration is not None and not learnt.better and f"{nodes} nodes are too few to tell" in str(learnt)
    alone = sample("HeunEDMSampler", problem, num_steps=nodes, scale=SCALE, calls=calls)[0]
    assert torch.equal(built(problem, *problem.inputs()), alone)


def test_what_such_a_run_said_serves_no_longer_ones():
    problem, built = problem_of(), sampler("HeunEDMSampler", num_steps=10, **{**LEARN, "calls": 8})
    built(problem, *problem.inputs())
    longer = on_another("HeunEDMSampler", built.guider, 20)
    assert counted(longer, problem, problem.inputs(seed=3))[1] > 39
    assert counted(longer, problem, problem.inputs(seed=4))[1] == 8


def test_calls_alone_is_not_replaced_by_what_is_worse():
    problem = GaussianMixture((3, 6, 6), components=6, spread=1.0)
    problem.means = 3 / 0.6 * problem.means
    inputs = problem.inputs(8, seed=5)
    exact = sample("HeunEDMSampler", problem, VANILLA, inputs, num_steps=300, scale=3.0)[0]
    built = sampler("HeunEDMSampler", scale=3.0, calls=19, learn=True)
    built(problem, *problem.inputs(seed=7))
    alone = sample("HeunEDMSampler", problem, inputs=inputs, scale=3.0, calls=19)[0]
    assert decibels(built(problem, *inputs), exact) >= decibels(alone, exact)


def test_nothing_is_said_of_a_calibration_that_a_run_does_not_go_by(monkeypatch, caplog):
    monkeypatch.setattr(learnt_module, "CLEAR", 100.0)
    problem, built = problem_of(), sampler("HeunEDMSampler", **LEARN)
    built(problem, *problem.inputs())
    other = sampler("HeunEDMSampler")
    other.guider, other.discretization = built.guider, EDMDiscretization(sigma_min=0.0012, sigma_max=40.0)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert counted(other, problem, problem.inputs())[1] == LEARN["calls"]
    assert not said(caplog)


class Starred(sampling.HeunEDMSampler):
    def denoise(self, *args, **kwargs):
        return super().denoise(*args, **kwargs)


class Renamed(sampling.DPMPP2MSampler):
    def denoise(self, x, model, sigma, cond, uc):
        return super().denoise(x, model, sigma, cond, uc)


@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("cls", [Starred, Renamed])
def test_a_sampler_whose_denoise_names_its_arguments_otherwise_makes_its_pictures(cls, file, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(sampling, cls.__name__, cls, raising=False)
    problem, path = problem_of(), str(tmp_path / "learnt.yaml")
    sampler("HeunEDMSampler", **{**LEARN, "learn": path})(problem, *problem.inputs())
    built = sampler(cls.__name__, **{**LEARN, "learn": path if file else True})
    own = sample(cls.__base__.__name__, problem, VANILLA, problem.inputs(), scale=SCALE)[0]
    first = built(problem, *problem.inputs())
    assert torch.equal(first, own) or file
    assert torch.isfinite(built(problem, *problem.inputs(seed=3))).all()


def test_an_empty_batch_teaches_nothing(caplog):
    problem, built = problem_of(), sampler("EulerEDMSampler", **LEARN)
    x, cond, uc = problem.inputs()
    assert built(problem, x[:0], *({name: value[:0] for name, value in each.items()} for each in (cond, uc))).shape == x[:0].shape
    assert "the batch is empty" in said(caplog)[0].getMessage()
    assert counted(built, problem, problem.inputs())[1] == LEARN["calls"]


def test_a_compiled_denoise_is_learnt_from():
    problem, built = problem_of(), sampler("EulerEDMSampler", num_steps=30, **{**LEARN, "calls": 3})
    built.denoise = torch.compile(built.denoise, backend="eager")
    with torch.no_grad():
        built(problem, *problem.inputs())
    assert built.guider.report.calls == 30
