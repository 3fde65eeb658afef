"""Hosts that do in the middle of a run what no host did yet: gradients begin, the guider is away, the denoiser is told things."""

import functools
import inspect
import sys

import pytest
import torch

from lessons import HOSTS, LEARN, SCALE
from problems import VANILLA, GaussianMixture, sampler
from taylorseer_guider import TaylorSeerGuider, loops
from taylorseer_guider.standalone import guiders, sampling


def stepped(built, denoiser, inputs, before=None):
    """x at the end of the sampler's own loop; ``before(step)`` is called before each step."""
    x, s_in, sigmas, count, cond, uc = built.prepare_sampling_loop(*inputs)
    state = None
    for i in built.get_sigma_gen(count):
        if before:
            before(i)
        x, state = built.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, state)
    return x


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("last", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"calls": 8}, {"interval": 3}], ids=str)
def test_gradients_that_begin_in_the_last_steps_reach_the_network(name, last, options):
    """As DRaFT's and ReFL's: all but the last steps are made under no_grad."""
    problem = GaussianMixture(spread=0.4)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = []
    for target, more in ((VANILLA, {}), (None, options)):
        built = sampler(name, *([target] if target else []), scale=SCALE, **more)
        steps = len(built.discretization(built.num_steps)) - 1

        def begin(step, steps=steps):
            torch.set_grad_enabled(step >= steps - last)

        try:
            x = stepped(built, lambda *args: weight * problem(*args), problem.inputs(), begin)
        finally:
            torch.set_grad_enabled(True)
        assert x.requires_grad
        found.append(torch.autograd.grad(x.sum(), weight)[0].item())
    assert found[1] == pytest.approx(found[0], rel=0.2)


@pytest.mark.parametrize("away", [(3, 17), (9, 13), (1, 3)])
@pytest.mark.parametrize("options", [{}, {"calls": 8}, {"interval": 2}], ids=str)
def test_steps_that_another_guider_made_are_not_forecast_across(away, options, caplog):
    """Guidance in an interval of sigmas, as a host may have it: its guider is exchanged for some steps."""
    problem = GaussianMixture(spread=0.4)

    def run(guider):
        built = sampler("EulerEDMSampler", VANILLA, scale=SCALE)

        def exchange(step):
            built.guider = guiders.IdentityGuider() if away[0] <= step < away[1] else guider

        built.guider = guider
        return stepped(built, problem, problem.inputs(), exchange)

    exact, ours = run(guiders.VanillaCFG(SCALE)), run(TaylorSeerGuider(scale=SCALE, **options))
    assert float((ours - exact).norm() / exact.norm()) < 0.1
    assert caplog.text.count("steps were taken without this guider") == 1


def test_a_schedule_walked_in_strides_is_not_taken_for_steps_elsewhere(caplog):
    problem, built = GaussianMixture(spread=0.4), sampler("EulerEDMSampler", scale=SCALE, num_steps=40, calls=8)
    x, s_in, sigmas, _, cond, uc = built.prepare_sampling_loop(*problem.inputs())
    sigmas = torch.cat([sigmas[:-1][::2], sigmas[-1:]])
    for i in built.get_sigma_gen(len(sigmas)):
        x, _ = built.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], problem, cond, uc, None)
    assert built.guider.report.calls <= 8 and "steps were taken" not in caplog.text


class Numbered(sampling.EulerEDMSampler):
    def get_sigma_gen(self, num_sigmas):
        return list(enumerate(range(num_sigmas - 1)))

    def __call__(self, denoiser, x, cond, uc=None, num_steps=None):
        x, s_in, sigmas, count, cond, uc = self.prepare_sampling_loop(x, cond, uc, num_steps)
        for i, _ in self.get_sigma_gen(count):
            x, _ = self.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, None)
        return x


def test_steps_may_be_announced_as_anything(monkeypatch):
    monkeypatch.setattr(sampling, "Numbered", Numbered, raising=False)
    problem, built = GaussianMixture(), sampler("Numbered", scale=SCALE, calls=8)
    built(problem, *problem.inputs())
    assert built.guider.report.calls <= 9


class InTurns(sampling.HeunEDMSampler):
    asked = 0

    def denoise(self, *args):
        self.asked += 1
        with torch.set_grad_enabled(self.asked % 2 == 1):
            return super().denoise(*args)


def test_gradients_that_nobody_has_are_called_for_once(monkeypatch):
    monkeypatch.setattr(sampling, "InTurns", InTurns, raising=False)
    problem, built = GaussianMixture(), sampler("InTurns", scale=SCALE, calls=8)
    with torch.no_grad():
        built(problem, *problem.inputs())
    assert built.guider.report.calls <= 9


class Telling(sampling.EulerEDMSampler):
    def sampler_step(self, x, sigma, next_sigma, denoiser, *rest):
        denoiser.step, denoiser.more = getattr(denoiser, "step", -1) + 1, True
        del denoiser.more
        return super().sampler_step(x, sigma, next_sigma, denoiser, *rest)


@pytest.mark.parametrize("options", [{"use_cache": False}, {"interval": 1}, {"calls": 8}], ids=str)
def test_a_denoiser_that_is_told_its_step_knows_it(monkeypatch, options):
    monkeypatch.setattr(sampling, "Telling", Telling, raising=False)
    problem = GaussianMixture()

    class Told:
        seen = ()

        def __call__(self, *args):
            self.seen += (self.step,)
            return problem(*args)

    denoiser = Told()
    built = sampler("Telling", scale=SCALE, **options)
    built(denoiser, *problem.inputs())
    called = [visit.step for visit in built.guider.report.visits if visit.action == "call"]
    assert list(denoiser.seen) == called


class ByName(sampling.EulerEDMSampler):
    def denoise(self, x, denoiser, sigma, cond, uc):
        return super().denoise(x, lambda x, sigma, c: denoiser(x=x, sigma=sigma, cond=c), sigma, cond, uc)


def test_a_denoiser_may_be_called_by_names(monkeypatch):
    monkeypatch.setattr(sampling, "ByName", ByName, raising=False)
    problem = GaussianMixture()
    one, other = (sampler(name, scale=SCALE, calls=8)(problem, *problem.inputs()) for name in ("ByName", "EulerEDMSampler"))
    assert torch.equal(one, other)


class WithBar(sampling.EulerEDMSampler):
    def __call__(self, denoiser, x, cond, uc=None, num_steps=None):
        x, s_in, sigmas, count, cond, uc = self.prepare_sampling_loop(x, cond, uc, num_steps)
        bar = self.get_sigma_gen(count)
        for i in bar:
            x, _ = self.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, None)
            bar.set_postfix(sigma=float(sigmas[i]))
        return x


def test_a_sampler_may_write_on_its_progress_bar(monkeypatch, capsys):
    monkeypatch.setattr(sampling, "WithBar", WithBar, raising=False)
    problem, built = GaussianMixture(), sampler("WithBar", scale=SCALE, calls=8)
    built.verbose = True
    built(problem, *problem.inputs())
    assert built.guider.report.calls == 8 and "sigma=" in capsys.readouterr().err


def test_a_denoiser_that_writes_into_its_sigma_changes_no_hosts():
    problem = GaussianMixture()

    def writing(x, sigma, cond):
        output = problem(x, sigma, cond)
        sigma.log_()
        return output

    for options in ({"interval": 1, "repeat_visits": "compute"}, {"calls": 8}):
        one, other = (sampler("EulerEDMSampler", scale=1, **options)(den, *problem.inputs()) for den in (writing, problem))
        assert torch.equal(one, other)


def test_a_class_whose_denoise_is_no_plain_function_can_be_defined():
    TaylorSeerGuider(scale=SCALE)

    class Partial(sampling.HeunEDMSampler):
        def _flagged(self, flag, *args):
            return super().denoise(*args)

        denoise = functools.partialmethod(_flagged, True)

    assert Partial.denoise


@pytest.mark.parametrize("line", ["failed = True", "yield own"])
def test_a_sampler_that_was_interrupted_anywhere_learns_later(line):
    problem, built = GaussianMixture(spread=0.8, components=3), sampler("HeunEDMSampler", **LEARN)

    def traced(frame, event, arg):
        if event == "line" and lines.get(frame.f_lineno, "").strip() == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return traced

    source, first = inspect.getsourcelines(loops.calling.__wrapped__)
    lines = dict(enumerate(source, start=first))
    sys.settrace(lambda frame, event, arg: traced if frame.f_code is loops.calling.__wrapped__.__code__ else None)
    try:
        with pytest.raises(KeyboardInterrupt):
            built(problem, *problem.inputs())
    finally:
        sys.settrace(None)
    built(problem, *problem.inputs())
    assert built.guider.report.learnt is not None and not loops.is_calling(built)
