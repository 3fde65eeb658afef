"""What forks of the family do differently, one mechanism at a time, on the standalone host."""

import logging

import pytest
import torch

from problems import EXACT, OURS, VANILLA, GaussianMixture, sampler
from taylorseer_guider import TaylorSeerGuider, loops, visits
from taylorseer_guider.standalone import guiders, sampling
from taylorseer_guider.standalone.config import append_dims

STEPS = 20
CONFIG = {"target": "taylorseer_guider.standalone.discretization.EDMDiscretization", "params": {"sigma_max": 40.0}}


class RisingSampler(sampling.BaseDiffusionSampler):
    """DDIM on x = alpha * image + sqrt(1 - alpha^2) * noise, from pure noise (alpha 0) up; its loop has seven values."""

    step_given = False

    def prepare_sampling_loop(self, x, cond, uc=None, num_steps=None):
        alphas = torch.linspace(0, 1, self.num_steps + 1, dtype=torch.float64)
        return x, x.new_ones(x.shape[0]), alphas, len(alphas), cond, cond if uc is None else uc, range(len(alphas))

    def __call__(self, denoiser, x, cond, uc=None):
        x, s_in, alphas, count, cond, uc, _ = self.prepare_sampling_loop(x, cond, uc)
        for i in self.get_sigma_gen(count):
            x = self.sampler_step(x, s_in * alphas[i], s_in * alphas[i + 1], denoiser, cond, uc, i)
        return x

    def sampler_step(self, x, alpha, next_alpha, denoiser, cond, uc, step):
        inputs = self.guider.prepare_inputs(x, alpha, cond, uc)
        extra = {"step": step} if self.step_given else {}
        denoised = self.guider(denoiser(*inputs), (1 - alpha**2) ** 0.5, **extra)
        ratio = ((1 - next_alpha**2) / (1 - alpha**2)) ** 0.5
        return append_dims(ratio, x.ndim) * x + append_dims(next_alpha - alpha * ratio, x.ndim) * denoised


class SteppedCFG(guiders.VanillaCFG):
    """A guider that a fork calls with the step, and whose scale swings with it."""

    def __call__(self, denoised, sigma, step=None):
        uncond, cond = denoised.chunk(2)
        return uncond + self.scale * (-1) ** (step or 0) * (cond - uncond)


def rising(step_given=False, target=OURS, **params):
    cls = type("ZeroSNRDDIMSampler", (RisingSampler,), {"step_given": step_given})
    return cls(CONFIG, STEPS, {"target": target, "params": params})


class Polynomial:
    """A denoiser whose output (or, with ``noise``, whose eps) is quadratic in sigma^(1/7), another one in each branch."""

    def __init__(self, noise=False):
        self.noise, self.calls = noise, 0

    def __call__(self, x, alpha, cond):
        self.calls += 1
        sigma = (1 - alpha**2).sqrt() / alpha
        u = append_dims(sigma.clamp_max(1e6) ** (1 / 7), x.ndim)
        value = append_dims(cond["vector"][:, 0], x.ndim) * (1 + u - 0.3 * u**2) * torch.ones_like(x)
        unscaled = append_dims((1 + sigma**2).sqrt().clamp_max(1e6), x.ndim)
        return x * unscaled - append_dims(sigma.clamp_max(1e6), x.ndim) * value if self.noise else value


def test_a_rising_schedule_is_forecast_in_sigma():
    problem, inputs = Polynomial(), GaussianMixture().inputs()
    full = rising(target=VANILLA, scale=2.0)(problem, *inputs)
    problem.calls = 0
    forecasting = rising(scale=2.0, max_order=2, coordinate="rho", activate=[0, 1, 2, 5, 11])
    result = forecasting(problem, *inputs)
    torch.testing.assert_close(result, full, rtol=0, atol=1e-9)
    report = forecasting.guider.report
    assert problem.calls == report.calls == 5
    assert [visit.reason for visit in report.visits[:4]] == ["infinite sigma", "no history", "planned", "skipped"]
    assert report.visits[0].sigma is None and report.visits[10].sigma == pytest.approx(3**0.5)


def test_eps_on_a_rising_schedule_is_that_of_the_unscaled_x():
    """Outputs that are exact in eps alone: the forecast visits must give back what the denoiser would have given."""
    problem = Polynomial(noise=True)
    guider = TaylorSeerGuider(scale=0, quantity="eps", max_order=2, activate=[0, 1, 2, 3])
    alphas = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    known = rising()
    run = loops.begin(guider, alphas, known)
    x, cond, _ = GaussianMixture().inputs()
    for step in range(1, STEPS):
        alpha = alphas[step].expand(len(x))
        run.place.announce(step)
        with visits.gated(guider, problem) as denoiser:
            guided = guider(denoiser(*guider.prepare_inputs(x, alpha, cond, cond)), alpha)
        torch.testing.assert_close(guided, problem(x, alpha, cond), rtol=1e-9, atol=1e-9)
        x = x + 0.1
    assert guider.report.calls == 3 and guider.report.forecasts == STEPS - 4


@pytest.mark.parametrize("name", ["taylorseer", "exact"])
def test_a_guider_called_with_the_step_combines_forecast_branches(name):
    wrapped = {"target": f"{__name__}.SteppedCFG", "params": {}}
    problem, inputs = Polynomial(), GaussianMixture().inputs()
    full = rising(True, wrapped["target"], scale=2.0)(problem, *inputs)
    settings = EXACT if name == "exact" else {"max_order": 2, "coordinate": "rho", "activate": [0, 1, 2, 5, 11]}
    result = rising(True, scale=2.0, guider_config=wrapped, **settings)(problem, *inputs)
    if name == "exact":
        assert torch.equal(result, full)
    torch.testing.assert_close(result, full, rtol=0, atol=1e-9)


def test_where_guiders_take_the_step_scale_1_keeps_both_branches(monkeypatch):
    assert isinstance(TaylorSeerGuider(scale=1), guiders.IdentityGuider)
    monkeypatch.setattr(guiders, "VanillaCFG", SteppedCFG)
    assert isinstance(TaylorSeerGuider(scale=1), SteppedCFG)
    assert isinstance(TaylorSeerGuider(scale=0), guiders.IdentityGuider)


class TiledSampler(sampling.EulerEDMSampler):
    """Takes each step on the left and the right half of the image in turn."""

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        step = super().sampler_step
        return torch.cat([step(half, sigma, next_sigma, denoiser, cond, uc, None)[0] for half in x.chunk(2, -1)], -1), None


@pytest.mark.parametrize("repeat_visits", ["reuse", "compute"])
def test_tiles_that_share_a_sigma_are_computed_and_the_log_says_so_once(caplog, repeat_visits):
    problem = GaussianMixture()
    _, cond, uc = problem.inputs()
    x = torch.randn(2, 3, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    full = TiledSampler(CONFIG, STEPS, {"target": VANILLA, "params": {"scale": 2.0}})(problem, x, cond, uc)
    problem.calls = 0
    tiled = TiledSampler(CONFIG, STEPS, {"target": OURS, "params": {"scale": 2.0, "repeat_visits": repeat_visits}})
    with caplog.at_level(logging.WARNING):
        assert torch.equal(tiled(problem, x, cond, uc), full)
        tiled(problem, x, cond, uc)
    assert problem.calls == 2 * 2 * STEPS
    assert len([record for record in caplog.records if "tiles" in record.message]) == 2  # once in each of two runs


def test_a_node_reached_by_way_of_logarithms_is_that_node():
    guider, sigmas = TaylorSeerGuider(scale=0, interval=3), sampler("EulerEDMSampler").discretization(STEPS)
    run = loops.begin(guider, sigmas)
    x, cond, _ = GaussianMixture(dtype=torch.float32).inputs()
    for step in range(STEPS - 1):
        run.place.announce(step)
        for sigma in (sigmas[step], (0.5 * (sigmas[step] * (sigmas[step + 1] ** 2 / sigmas[step])).log()).exp()):
            with visits.gated(guider, lambda x, sigma, cond: 0 * x) as denoiser:
                guider(denoiser(*guider.prepare_inputs(x, sigma.expand(len(x)), cond, cond)), sigma)
    nodes = [visit.node for visit in guider.report.visits]
    assert nodes == [node for step in range(STEPS - 1) for node in (step, step + 1)]
    assert guider.report.calls == 7


def test_history_holds_one_output_a_node():
    """Churn visits a node at its sigma and above it with new noise; a difference between the two would only amplify that."""
    guider, sigmas = TaylorSeerGuider(scale=0, interval=1, max_order=3), torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
    run = loops.begin(guider, sigmas)
    x = torch.ones(1, 1, 2, 2)
    for step in range(3):
        run.place.announce(step)
        for sigma in (1.1 * sigmas[step], sigmas[step + 1]):
            with visits.gated(guider, lambda x, sigma, cond: x) as denoiser:
                guider(denoiser(*guider.prepare_inputs(x, sigma.expand(1), {}, {})), sigma)
    assert [held.node for held in run.history] == [3, 2, 1, 0]
