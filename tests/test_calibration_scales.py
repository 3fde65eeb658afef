"""A calibration for a range of guidance scales: weights that follow the scale, the file of them, and what is refused."""

from dataclasses import replace

import pytest
import torch

from problems import EXACT, IDENTITY, VANILLA, GaussianMixture, decibels, sample, sampler
from taylorseer_guider import Calibration, TaylorSeerGuider, calibrate
from taylorseer_guider.calibration.scales import mixing, told_for, widened
from taylorseer_guider.calibration.squares import gram, solve
from taylorseer_guider.forecast import newton_weights

SCALES = (1.0, 2.0, 3.0)
QUICK = {"substeps": 4, "progress": False}


class TwoGaussians(GaussianMixture):
    """One Gaussian with the condition, another without: runs end at a sum of what is held, with weights linear in the scale."""

    def __init__(self):
        super().__init__((4,), components=2)

    def inputs(self, batch=2, seed=0):
        x, *_ = super().inputs(batch, seed)
        lean = torch.tensor([500.0, 0.0], dtype=x.dtype).expand(batch, 2)
        return x, {"vector": lean}, {"vector": lean.flip(1)}


@pytest.fixture(scope="module")
def gaussians():
    return TwoGaussians()


def given(problem, count=2):
    return [dict(zip(("x", "cond", "uc"), problem.inputs(20, seed=n), strict=True)) for n in range(count)]


@pytest.fixture(scope="module", params=["EulerEDMSampler", "HeunEDMSampler"])
def fitted(request, gaussians, tmp_path_factory):
    """(sampler's name, a calibration for scales 1 to 3, its file)."""
    found = calibrate(sampler(request.param, scale=2.5), gaussians, given(gaussians), calls=[1, 3], scales=SCALES, **QUICK)
    path = tmp_path_factory.mktemp("range") / f"{request.param}.yaml"
    found.save(path)
    return request.param, found, str(path)


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("parts", [1, 2])
def test_runs_at_several_scales_are_solved_for_weights_that_are_polynomials_in_the_scale(degree, parts):
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)  # noqa: E731
    made, told, systems = draw(degree + 1, 4), told_for((1.5, 4.0, 2.0), degree), []
    made -= made.unflatten(1, (parts, -1)).mean(2).repeat_interleave(4 // parts, 1)  # adding up to 0 in each part
    truth = lambda scale: sum(scale**power * made[power] for power in range(degree + 1))  # noqa: E731
    for scale in (1.5, 2.0, 3.0, 4.0):
        regressors = [draw(3, 50) for _ in range(4)]
        target = sum(weight * regressor for weight, regressor in zip(truth(scale), regressors, strict=True))
        systems.append(widened(gram([*regressors, target]), newton_weights(told, scale), parts))
    weights, mean_square = solve(torch.cat(systems), [0.0] * 4 * (degree + 1), parts * (degree + 1))
    assert mean_square < 1e-6
    for unseen in (1.75, 3.6):
        there = mixing(newton_weights(told, unseen), 4 // parts, parts) @ torch.tensor(weights, dtype=torch.float64)
        assert there.tolist() == pytest.approx(truth(unseen).tolist(), rel=1e-3, abs=1e-3)


def test_weights_at_a_scale_that_was_not_fitted_are_those_solved_there(fitted, gaussians):
    name, calibration, _ = fitted
    own = calibrate(sampler(name, scale=2.2), gaussians, given(gaussians), calls=1, **QUICK).budgets[1]
    ours = calibration.budgets[1].mixed(newton_weights(calibration.fitted.scales, 2.2))
    for row, other in zip(ours.rows, own.rows, strict=True):
        assert row.weights == pytest.approx(other.weights, rel=1e-2, abs=0.02)


def test_a_run_at_any_scale_of_the_range_lands_on_the_solution_and_makes_its_calls(fitted, gaussians):
    name, _, path = fitted
    for scale in (1, 1.3, 2.2, 3.0):
        inputs, before = gaussians.inputs(50, seed=9), gaussians.calls
        ours, built = sample(name, gaussians, inputs=inputs, scale=scale, calibration=path, calls=3)
        assert gaussians.calls - before == built.guider.report.calls == 3
        exact, _ = sample("HeunEDMSampler", gaussians, VANILLA, inputs=inputs, num_steps=200, scale=scale)
        assert decibels(ours, exact) > 60


def test_at_scale_1_of_a_range_both_branches_are_computed_and_elsewhere_one(fitted, gaussians):
    name, _, path = fitted
    samples = lambda built: (built(gaussians, *gaussians.inputs(2)), len(gaussians.seen[-1]))[1]  # noqa: E731
    assert samples(sampler(name, scale=1, calibration=path, calls=3)) == 4
    assert samples(sampler(name, scale=1, calls=3)) == 2


def test_the_scale_may_be_set_between_images(fitted, gaussians):
    name, _, path = fitted
    built = sampler(name, scale=1.5, calibration=path, calls=3)
    built.guider.scale = 2.5
    alone, _ = sample(name, gaussians, scale=2.5, calibration=path, calls=3)
    assert torch.equal(built(gaussians, *gaussians.inputs()), alone)


@pytest.mark.parametrize("scale", [0.5, 3.5])
def test_a_scale_outside_of_the_range_is_refused_with_the_range_and_the_remedy(fitted, gaussians, scale):
    name, _, path = fitted
    with pytest.raises(ValueError, match=rf"scale is {scale} here, it was fitted for 1.0 to 3.0; give.*calibrate with `scales`"):
        sample(name, gaussians, scale=scale, calibration=path, calls=3)


def test_scale_0_is_no_scale_of_a_range(fitted, gaussians):
    name, _, path = fitted
    with pytest.raises(ValueError, match="scale is 0.0 here, it was fitted for 1.0 to 3.0"):
        sample(name, gaussians, scale=0, calibration=path, calls=3)


def test_a_file_reads_back_and_says_for_which_scales_it_is(fitted):
    _, calibration, path = fitted
    assert Calibration.load(path) == calibration
    assert calibration.fitted.scales == (1.0, 3.0) and calibration.about["scales"] == [1.0, 2.0, 3.0]
    assert all(len(row.weights) % 2 == 0 for budget in calibration.budgets.values() for row in budget.rows)


def test_what_is_no_range_of_scales_is_refused_before_anything_is_computed(gaussians):
    built, before = sampler("EulerEDMSampler", scale=2.0), gaussians.calls
    for wrong in ([2.0], [0.0, 2.0], [-1.0, 2.0], [2.0, float("nan")], []):
        with pytest.raises(ValueError, match=r"scales=.*two or more different numbers above 0"):
            calibrate(built, gaussians, given(gaussians), calls=3, scales=wrong, **QUICK)
    for degree in (0, 3, 1.0, True):
        with pytest.raises(ValueError, match="degree=.*from 1 to 2, with 4 scales"):
            calibrate(built, gaussians, given(gaussians), calls=3, scales=[1.5, 2, 3, 4], degree=degree, **QUICK)
    with pytest.raises(ValueError, match="degree=2.*from 1 to 1, with 2 scales"):
        calibrate(built, gaussians, given(gaussians), calls=3, scales=[1.5, 2], degree=2, **QUICK)
    assert gaussians.calls == before


def test_a_guider_whose_branches_are_not_known_has_no_range(gaussians):
    options = {"guider_config": {"target": IDENTITY}}
    with pytest.raises(ValueError, match=r"scales=\[1.5, 2.0\]: the guided output is not uncond \+ scale"):
        calibrate(sampler("EulerEDMSampler", **options), gaussians, given(gaussians), calls=3, scales=[1.5, 2], **QUICK)


def test_the_guider_keeps_its_own_scale(gaussians):
    built = sampler("EulerEDMSampler", scale=2.0)
    calibrate(built, gaussians, given(gaussians, 1), calls=2, scales=[1.5, 3], **QUICK)
    assert built.guider.scale == 2.0 and torch.equal(
        built(gaussians, *gaussians.inputs()), sample("EulerEDMSampler", gaussians, scale=2.0)[0]
    )


@pytest.mark.slow
def test_a_refined_range_ends_nearer_at_a_scale_between_those_fitted(tmp_path):
    mixture, reached = GaussianMixture((4,)), []
    inputs = mixture.inputs(200, seed=99)
    exact, _ = sample("HeunEDMSampler", mixture, inputs=inputs, num_steps=150, scale=2.2, **EXACT)
    options = {**QUICK, "substeps": 2, "scales": [1.5, 2, 3], "calls": 5, "refine": 8}
    calibrate(sampler("EulerEDMSampler", scale=2.0), mixture, given(mixture), **options).save(tmp_path / "c.yaml")
    for more in ({}, {"calibration": str(tmp_path / "c.yaml")}):
        ours, _ = sample("EulerEDMSampler", mixture, inputs=inputs, scale=2.2, calls=5, **more)
        reached.append(decibels(ours, exact))
    assert reached[1] > reached[0] + 5


def test_a_calibration_of_one_scale_leaves_a_guider_of_another_at_scale_1_with_one_branch(fitted, tmp_path):
    _, calibration, _ = fitted
    alone = replace(
        calibration,
        fitted=replace(calibration.fitted, scales=(2.0,)),
        budgets={count: budget.mixed([0.5, 0.5]) for count, budget in calibration.budgets.items()},
    )
    alone.save(tmp_path / "alone.yaml")
    assert Calibration.load(tmp_path / "alone.yaml") == alone
    guider = TaylorSeerGuider(scale=1, calibration=tmp_path / "alone.yaml", calls=3)
    assert guider.wrapped.__name__ == "IdentityGuider"


@pytest.mark.slow
def test_a_file_of_five_budgets_for_a_range_is_no_larger_than_100_kilobytes():
    images = GaussianMixture((3, 8, 8), components=4, dtype=torch.float32)
    options = {"calls": [5, 6, 8, 10, 13], "scales": [1.5, 3], "low": True, "substeps": 1, "progress": False}
    found = calibrate(sampler("HeunEDMSampler", scale=2), images, given(images, 1), **options)
    assert len(found.to_yaml()) < 100_000
