"""One regression test for each fault of an earlier attempt at this guider."""

import torch

from problems import VANILLA, GaussianMixture, sample, sampler
from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider.plan import plan
from taylorseer_guider.run import Run


def test_the_predictor_is_really_called():
    problem = GaussianMixture()
    _, built = sample("EulerEDMSampler", problem, interval=4)
    assert built.guider.report.forecasts == 15 and problem.calls == 5


def test_guidance_starts_from_the_unconditional_branch():
    x_u, x_c = torch.zeros(1, 4), torch.ones(1, 4)
    guided = TaylorSeerGuider(scale=3.0)(torch.cat([x_u, x_c]), torch.ones(1))
    assert torch.equal(guided, torch.full((1, 4), 3.0))  # x_c + scale (x_c - x_u) would be 4


def test_no_attribute_is_missing_with_the_plainest_yaml():
    image, built = sample("HeunEDMSampler", GaussianMixture(), scale=5.0)
    assert torch.isfinite(image).all() and built.guider.scale == 5.0


def test_sigma_distances_are_not_compared_with_step_counts():
    sigmas = [40.0, 10.0, 2.0, 0.5, 0.1]
    assert plan(sigmas, interval=2) == (True, False, True, False, True)
    assert plan(sigmas, interval=9, step_threshold=9.0) == (True, True, False, True, False)


def test_history_holds_the_combined_output_not_the_doubled_batch(monkeypatch):
    shapes = []
    original = Run.remember

    def watched(run, visit, x, branches):
        original(run, visit, x, branches)
        shapes.extend((tuple(branch.shape), x.shape[0]) for branch in run.history.branches)

    monkeypatch.setattr(Run, "remember", watched)
    sample("EulerEDMSampler", GaussianMixture(), scale=3.0, interval=3)
    assert shapes and set(shapes) == {((2, 3, 4, 4), 2)}


def test_a_forecast_is_not_fed_to_the_network():
    problem = GaussianMixture()
    built = sampler("EulerEDMSampler", scale=3.0, interval=3)
    forecasts = []
    original = built.denoise

    def watched(*args):
        denoised = original(*args)
        if built.guider.report.visits[-1].action == "forecast":
            forecasts.append(denoised)
        return denoised

    built.denoise = watched
    built(problem, *problem.inputs())
    assert len(forecasts) == 13 and problem.calls == 7
    assert not any(torch.equal(seen[:2], forecast) for seen in problem.seen for forecast in forecasts)


def test_forecasting_twice_from_the_same_history_gives_the_same(monkeypatch):
    original = Run._weighted

    def twice(run, visit, x, weights):
        first = original(run, visit, x, weights)
        kept = first.clone()
        first.add_(1.0)
        assert torch.equal(original(run, visit, x, weights), kept)
        return kept

    monkeypatch.setattr(Run, "_weighted", twice)
    _, built = sample("HeunEDMSampler", GaussianMixture(), interval=3)
    assert built.guider.report.forecasts == 32


def test_the_cache_is_cleared_between_images():
    problem = GaussianMixture()
    built = sampler("HeunEDMSampler", interval=3)
    first = built(problem, *problem.inputs(seed=1))
    built(problem, *problem.inputs(seed=2))
    assert torch.equal(built(problem, *problem.inputs(seed=1)), first)
    full, _ = sample("HeunEDMSampler", problem, VANILLA, scale=5.0)
    assert full.shape == first.shape
