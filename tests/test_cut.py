"""Runs that begin in the middle of their schedule, as a second sampler's does that goes on from the first one's picture."""

import pytest
import torch

from problems import SAMPLERS, VANILLA, GaussianMixture, sampler
from taylorseer_guider.standalone import sampling
from taylorseer_guider.standalone.discretization import EDMDiscretization

STEPS, FIRST = 20, 12


def relay(name):
    """The class ``name``, whose runs begin at the step FIRST: the x that it is given is of that sigma."""

    def call(self, denoiser, x, cond, uc=None, num_steps=None):
        _, s_in, sigmas, count, cond, uc = self.prepare_sampling_loop(x.clone(), cond, uc, num_steps)
        state = None
        for i in self.get_sigma_gen(count):
            if i >= FIRST:
                x, state = self.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, state)
        return x

    return type(name, (getattr(sampling, name),), {"__call__": call})


def made(name, target=None, **options):
    built = sampler(name, *([] if target is None else [target]), num_steps=STEPS, scale=2.0, **options)
    built.__class__ = relay(name)
    return built


def begun():
    """A mixture, and x, cond, uc at the sigma that such runs begin at."""
    problem = GaussianMixture()
    x, cond, uc = problem.inputs(8)
    sigma = EDMDiscretization(sigma_min=0.002, sigma_max=40.0)(STEPS)[FIRST]
    return problem, (0.3 + x * sigma, cond, uc)


@pytest.mark.parametrize("calls", [1, 3, 5, 8, 12])
@pytest.mark.parametrize("name", SAMPLERS)
def test_as_many_calls_are_made_as_were_asked_for_on_what_is_left(name, calls):
    problem, inputs = begun()
    built = made(name, calls=calls)
    built(problem, *inputs)
    assert problem.calls == built.guider.report.calls == min(calls, STEPS - FIRST)


@pytest.mark.parametrize("name", SAMPLERS)
def test_half_of_what_is_left_is_called_where_nothing_is_said(name):
    problem, inputs = begun()
    built, full = made(name), made(name, VANILLA)(problem, *inputs)
    problem.calls = 0
    image = built(problem, *inputs)
    assert problem.calls == (STEPS - FIRST) // 2
    assert float((image - full).norm() / full.norm()) < 0.1


def test_a_run_from_the_beginning_is_planned_over_all_of_it():
    problem, built = GaussianMixture(), sampler("EulerEDMSampler", num_steps=STEPS, scale=2.0, calls=8)
    before = built(problem, *problem.inputs())
    part, inputs = begun()
    cut = made("EulerEDMSampler", calls=8)
    cut.guider = built.guider
    cut(part, *inputs)
    assert part.calls == 8 and torch.equal(built(problem, *problem.inputs()), before)


@pytest.mark.parametrize("options", [{}, {"calls": 10}], ids=str)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_look_ahead_does_not_move_the_calls(name, options):
    """One output that is asked for low on the schedule, before the run begins at its top."""

    class Looking(getattr(sampling, name)):
        def __call__(self, denoiser, x, cond, uc=None, num_steps=None):
            x, s_in, sigmas, count, cond, uc = self.prepare_sampling_loop(x, cond, uc, num_steps)
            self.denoise(x, denoiser, s_in * sigmas[15], cond, uc)
            state = None
            for i in self.get_sigma_gen(count):
                x, state = self.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, state)
            return x

    problem, built = GaussianMixture(), sampler(name, num_steps=STEPS, scale=2.0, **options)
    full = sampler(name, VANILLA, num_steps=STEPS, scale=2.0)(problem, *problem.inputs())
    built.__class__ = Looking
    problem.calls = 0
    image = built(problem, *problem.inputs())
    assert problem.calls >= 10 and float((image - full).norm() / full.norm()) < 0.2


def test_schedules_that_rise_again_or_have_no_node_are_not_refused_by_default():
    problem = GaussianMixture()
    x, cond, uc = problem.inputs()
    for sigmas in ([40.0, 20.0, 10.0, 5.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.0], [0.0]):
        for name, options in (("EulerEDMSampler", {}), ("EulerEDMSampler", {"quantity": "denoised"})):
            built = sampler(name, scale=2.0, **options)
            built.discretization = lambda *_, sigmas=sigmas, **__: torch.tensor(sigmas, dtype=torch.float64)
            assert torch.isfinite(built(problem, x, cond, uc)).all()
