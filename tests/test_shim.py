"""The shim: host methods run unmodified, other guiders never notice, and everything can be undone."""

import logging

import pytest
import torch

from problems import IDENTITY, SAMPLERS, VANILLA, GaussianMixture, sample, sampler
from taylorseer_guider import TaylorSeerGuider, shim
from taylorseer_guider.standalone import sampling

CONFIG = {
    "target": "taylorseer_guider.standalone.discretization.EDMDiscretization",
    "params": {"sigma_min": 0.002, "sigma_max": 40.0},
}
METHODS = ("prepare_sampling_loop", "get_sigma_gen", "denoise")


def methods():
    return [vars(sampling.BaseDiffusionSampler)[name] for name in METHODS]


def test_installing_twice_wraps_once_and_uninstalling_restores():
    shim.uninstall()
    before = methods()
    shim.install()
    wrapped = methods()
    shim.install()
    assert methods() == wrapped != before
    assert all(method.__wrapped__ is original for method, original in zip(wrapped, before, strict=True))
    shim.uninstall()
    assert methods() == before
    shim.install()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("target", [VANILLA, IDENTITY])
def test_other_guiders_never_notice(name, target):
    problem, params = GaussianMixture(), {"scale": 2.0} if target == VANILLA else {}
    shim.uninstall()
    before, _ = sample(name, problem, target, **params)
    shim.install()
    after, _ = sample(name, problem, target, **params)
    assert torch.equal(before, after)


def test_without_the_shim_every_visit_computes_and_the_log_says_so_once(caplog):
    problem = GaussianMixture()
    full, _ = sample("HeunEDMSampler", problem, VANILLA, scale=2.0)
    built = sampler("HeunEDMSampler", scale=2.0)
    shim.uninstall()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(built(problem, *problem.inputs()), full)
        built(problem, *problem.inputs())
    shim.install()
    assert len([record for record in caplog.records if "every visit computes" in record.message]) == 1


def test_a_visit_past_the_gate_computes_and_is_logged(caplog):
    class Bypassing(sampling.EulerEDMSampler):
        def __call__(self, network, x, cond, uc):
            x, s_in, sigmas, count, cond, uc = self.prepare_sampling_loop(x, cond, uc)
            for i in self.get_sigma_gen(count):
                sigma = s_in * sigmas[i]
                denoised = self.guider(network(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)
                x = x + sampling.to_d(x, sigma, denoised) * sampling.append_dims(s_in * sigmas[i + 1] - sigma, x.ndim)
            return x

    problem = GaussianMixture()
    full, _ = sample("EulerEDMSampler", problem, VANILLA, scale=2.0)
    bypassing = Bypassing(CONFIG, 20, {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"scale": 2.0}})
    with caplog.at_level(logging.WARNING):
        assert torch.equal(bypassing(problem, *problem.inputs()), full)
    assert "not gated" in caplog.text
    assert {visit.reason for visit in bypassing.guider.report.visits} == {"not gated"}


def test_a_subclass_that_overrides_a_wrapped_method_is_wrapped_too():
    class Overriding(sampling.EulerEDMSampler):
        def prepare_sampling_loop(self, x, cond, uc=None, num_steps=None):
            sigmas = self.discretization(self.num_steps)
            return x * sigmas[0], x.new_ones(x.shape[0]), sigmas, len(sigmas), cond, cond if uc is None else uc

        def denoise(self, x, denoiser, sigma, cond, uc):
            return self.guider(denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)

    problem = GaussianMixture()
    overriding = Overriding(CONFIG, 20, {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"interval": 4}})
    overriding(problem, *problem.inputs())
    assert problem.calls == overriding.guider.report.calls == 5


def test_attach_gates_a_sampler_of_an_unknown_host():
    shim.install()  # so that the host's own methods are those within the wrapped ones, whatever ran before

    class Other:
        """A sampler of the family that inherits from none of the known ones."""

        num_steps = 20
        discretization = staticmethod(lambda n, device: sampler("EulerEDMSampler").discretization(n))
        device = "cpu"
        prepare_sampling_loop = sampling.BaseDiffusionSampler.__dict__["prepare_sampling_loop"].__wrapped__
        get_sigma_gen = sampling.BaseDiffusionSampler.__dict__["get_sigma_gen"].__wrapped__
        denoise = sampling.BaseDiffusionSampler.__dict__["denoise"].__wrapped__
        __call__ = sampling.BaseDiffusionSampler.__call__
        sampler_step = sampling.EulerEDMSampler.sampler_step
        verbose = False

    problem, other = GaussianMixture(), Other()
    other.guider = TaylorSeerGuider(interval=4)
    shim.attach(other)
    shim.attach(other)
    other(problem, *problem.inputs())
    assert problem.calls == 5


def test_attach_refuses_what_is_no_sampler():
    with pytest.raises(TypeError, match="denoise"):
        shim.attach(object())


def test_a_guider_put_into_a_finished_sampler_works_too():
    problem, built = GaussianMixture(), sampler("EulerEDMSampler", VANILLA, scale=2.0)
    built.guider = TaylorSeerGuider(scale=2.0, interval=5)
    built(problem, *problem.inputs())
    assert problem.calls == 4


def test_a_denoiser_that_is_gated_twice_is_gated_once():
    class Layered(sampling.EulerEDMSampler):
        def denoise(self, x, denoiser, sigma, cond, uc):
            return super().denoise(x, denoiser, sigma, cond, uc)

    problem = GaussianMixture()
    layered = Layered(CONFIG, 20, {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"interval": 4}})
    shim.attach(layered)
    layered(problem, *problem.inputs())
    assert problem.calls == layered.guider.report.calls == 5


def test_a_sampler_may_read_what_else_its_denoiser_has():
    class Reading(sampling.EulerEDMSampler):
        def sampler_step(self, x, sigma, next_sigma, denoiser, *others):
            shapes.append(denoiser.shape)
            return super().sampler_step(x, sigma, next_sigma, denoiser, *others)

    problem, shapes = GaussianMixture(), []
    Reading(CONFIG, 20, {"target": "taylorseer_guider.TaylorSeerGuider", "params": {}})(problem, *problem.inputs())
    assert shapes == [problem.shape] * 20 and problem.calls < 20


def test_an_abandoned_loop_does_not_end_the_run_that_came_after_it():
    built, (x, cond, uc) = sampler("EulerEDMSampler"), GaussianMixture().inputs()
    built.prepare_sampling_loop(x, cond, uc)
    abandoned = iter(built.get_sigma_gen(21))
    next(abandoned)
    built.prepare_sampling_loop(x, cond, uc)
    abandoned.close()
    assert not built.guider.report.finished
    for _ in built.get_sigma_gen(21):
        pass
    assert built.guider.report.finished


def test_the_progress_bar_keeps_its_total(capsys):
    built = sampler("EulerEDMSampler", interval=4)
    built.verbose = True
    built(GaussianMixture(), *GaussianMixture().inputs())
    assert "20/20" in capsys.readouterr().err
    assert len(built.get_sigma_gen(21)) == 20


@pytest.mark.parametrize("repeat_visits", ["reuse", "later"])
def test_a_loop_over_the_end_of_the_schedule_is_forecast_at_the_sigmas_that_it_visits(repeat_visits):
    problem, built = GaussianMixture(), sampler("HeunEDMSampler", scale=2.0, interval=3, repeat_visits=repeat_visits)
    x, s_in, sigmas, count, cond, uc = built.prepare_sampling_loop(*problem.inputs())
    sigmas = sigmas[8:]
    for i in built.get_sigma_gen(count - 8):
        x, _ = built.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], problem, cond, uc, None)
    visits = built.guider.report.visits
    assert [visit.node for visit in visits] == [node for node in range(8, 20) for _ in range(2)][1:]
    assert [visit.step for visit in visits] == [step for step in range(8, 20) for _ in range(2)][:-1]
    assert [visit.node for visit in visits if visit.action == "call"] == [8, 9, 12, 15, 18]


def test_attaching_a_module_leaves_all_others_alone():
    """``__call__`` of torch.nn.Module is everybody's."""

    class Sampler(torch.nn.Module):
        def denoise(self, x, denoiser, sigma, cond, uc):
            return self.guider(denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)

    before, one = torch.nn.Module.__call__, Sampler()
    shim.attach(one)
    assert torch.nn.Module.__call__ is before and torch.nn.Linear(2, 2)(torch.ones(1, 2)).shape == (1, 2)
    one.guider = TaylorSeerGuider(scale=1.0)
    x = torch.ones(1, 3)
    assert torch.equal(one.denoise(x, lambda x, sigma, cond: x / 2, torch.ones(1), {}, {}), x / 2)


def test_a_class_that_is_wrapped_may_have_no_guider():
    class Bare(sampling.EulerEDMSampler):
        def __init__(self):
            self.verbose = False

    assert list(Bare().get_sigma_gen(3)) == [0, 1]
