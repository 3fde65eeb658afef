"""Forks of sgm: classes that have a known name and do something else, and denoisers that return more than an output."""

import logging

import pytest
import torch

from problems import SAMPLERS, VANILLA, GaussianMixture, sampler
from taylorseer_guider.hosts import stepping
from taylorseer_guider.standalone import sampling
from taylorseer_guider.standalone.guiders import VanillaCFG


def of_a_fork(name, **methods):
    """A class of the known ``name`` whose methods are its own."""
    return type(name, (sampling.BaseDiffusionSampler,), {**vars(getattr(sampling, name)), **methods})


def framed(self, denoiser, x, cond, uc=None, cond_frame=None, cond_mask=None, num_steps=None):
    """As video forks have it: frames that are known are put back into x before every step."""
    x, s_in, sigmas, count, cond, uc = self.prepare_sampling_loop(x, cond, uc, num_steps)
    for i in self.get_sigma_gen(count):
        x = torch.where(cond_mask, cond_frame, x)
        x, _ = self.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, None)
    return x


def stepped(self, x, sigma, next_sigma, denoiser, cond, uc, state, past_images=None):
    return x, None


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_class_that_takes_more_than_the_known_one_is_not_known(name):
    known = stepping(object.__new__(of_a_fork(name)))
    assert known.name == name and not known.noisy
    for methods in ({"__call__": framed}, {"sampler_step": stepped}):
        assert stepping(object.__new__(of_a_fork(name, **methods))).noisy


def test_frames_that_a_fork_puts_back_reach_the_network_as_they_are():
    problem, built = GaussianMixture(), sampler("EulerEDMSampler", scale=2.0, calls=8)
    built.__class__ = of_a_fork("EulerEDMSampler", __call__=framed)
    x, cond, uc = problem.inputs()
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[:, 0] = True
    built(problem, x, cond, uc, cond_frame=torch.full_like(x, 0.5), cond_mask=mask)
    assert built.guider.report.calls == 8
    assert all(torch.equal(seen[:, 0], torch.full_like(seen[:, 0], 0.5)) for seen in problem.seen)


class Heads(sampling.HeunEDMSampler):
    """A sampler that keeps what else the denoiser returns."""

    def denoise(self, x, denoiser, sigma, cond, uc):
        denoised, self.features = denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc))
        assert self.features == "features"
        return self.guider(denoised, sigma)


class Pair(sampling.DPMPP2MSampler):
    """One whose guider combines all that the denoiser returns."""

    def denoise(self, x, denoiser, sigma, cond, uc):
        return self.guider(denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)[0]


class OfPairs(VanillaCFG):
    def __call__(self, denoised, sigma):
        return tuple(super(OfPairs, self).__call__(each, sigma) for each in denoised)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"calls": 8}, {"calls": 8, "learn": True}], ids=str)
def test_a_denoiser_of_several_outputs_is_called_at_every_visit_and_the_log_says_why(options, batch, caplog):
    problem, built = GaussianMixture(), sampler("HeunEDMSampler", scale=2.0, **options)
    built.__class__ = Heads
    full = sampler("HeunEDMSampler", VANILLA, scale=2.0)(problem, *problem.inputs(batch))
    for _ in range(2):
        problem.calls = 0
        with caplog.at_level(logging.WARNING):
            image = built(lambda *args: (problem(*args), "features"), *problem.inputs(batch))
        assert torch.equal(image, full) and built.guider.report.forecasts == 0
    assert problem.calls == 39 and "something else than one tensor" in caplog.text


def test_a_guider_of_several_outputs_gets_them_all():
    problem = GaussianMixture()
    built = sampler("DPMPP2MSampler", guider_config={"target": f"{__name__}.OfPairs"}, scale=2.0)
    built.__class__ = Pair
    image = built(lambda *args: (problem(*args), problem(*args)), *problem.inputs())
    assert torch.equal(image, sampler("DPMPP2MSampler", VANILLA, scale=2.0)(problem, *problem.inputs()))
