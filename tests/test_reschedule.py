"""A calibration on another schedule: the denoiser is asked what it was asked in the fit, wherever the host's nodes are."""

import math
from dataclasses import replace

import pytest
import torch

from problems import GaussianMixture, decibels, runs, sample, sampler
from taylorseer_guider import Calibration, calibrate
from taylorseer_guider.calibration_file import Budget, Row
from taylorseer_guider.reschedule import along, nearest, on_schedule, straightened
from taylorseer_guider.translate import Sum
from test_translate import HOSTS, NODES, drawn

SCALE = 2.0
CALLS = 5


@pytest.fixture(scope="module")
def problem():
    return GaussianMixture((4,), spread=0.6)


@pytest.fixture(scope="module")
def file(problem, tmp_path_factory):
    """A calibration of Heun's sampler on 20 steps from 40 to 0.002."""
    path = tmp_path_factory.mktemp("calibration") / "heun.yaml"
    quick = {"substeps": 2, "progress": False}
    calibrate(sampler("HeunEDMSampler", scale=SCALE), problem, runs(problem), calls=CALLS, **quick).save(path)
    return str(path)


class Seeing(GaussianMixture):
    """A denoiser that keeps what it is asked: x and sigma."""

    def __call__(self, x, sigma, cond):
        assert sigma.shape == x.shape[:1]
        self.asked.append((x.clone(), sigma.clone()))
        return super().__call__(x, sigma, cond)


def seen(problem, name, **options):
    """(the picture, [(x, sigma)] of every call) of a run."""
    problem.asked = []
    return sample(name, problem, **options)[0], problem.asked


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
@pytest.mark.parametrize(("branches", "low"), [(2, False), (1, True)])
def test_a_row_for_each_call_leads_where_the_rows_of_all_visits_do(name, branches, low, tmp_path):
    scale = 1.5 if branches == 2 else 0
    path = drawn(name, tmp_path / "drawn.yaml", branches, low, (scale,))
    drawn_file = Calibration.load(path)
    budget = straightened(drawn_file.budget(), drawn_file.fitted, branches, drawn_file.history)
    fitted = replace(drawn_file.fitted, sampler="EulerEDMSampler")
    history = drawn_file.history + (name == "HeunEDMSampler")
    short = replace(drawn_file, fitted=fitted, history=history, budgets={len(NODES): budget})
    short.save(tmp_path / "short.yaml")
    assert len(budget.rows) == len(NODES) and all(row.call for row in budget.rows)
    problem = GaussianMixture((3, 5, 9))
    both = [sample(name, problem, scale=scale, calibration=str(file))[0] for file in (path, tmp_path / "short.yaml")]
    torch.testing.assert_close(*both, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("steps", [len(NODES), 12, 21, 50])
@pytest.mark.parametrize(("branches", "low"), [(2, False), (1, True)])
def test_every_call_and_the_picture_are_those_of_the_schedule_that_was_fitted(name, steps, branches, low, tmp_path):
    problem, scale = Seeing((3, 5, 9)), 1.5 if branches == 2 else 0
    options = {"scale": scale, "calibration": drawn("HeunEDMSampler", tmp_path / "drawn.yaml", branches, low, (scale,))}
    picture, asked = seen(problem, "HeunEDMSampler", **options)
    moved, asked_too = seen(problem, name, num_steps=steps, **options)
    assert len(asked) == len(asked_too) == len(NODES)
    for ours, theirs in zip(asked_too, asked, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moved, picture, rtol=1e-6, atol=1e-6)


def test_sigmas_that_go_on_further_or_end_before_change_nothing(file, problem):
    ends = []
    for smallest in (0.0005, 0.002, 0.05):
        built = sampler("HeunEDMSampler", scale=SCALE, calibration=file, num_steps=17)
        built.discretization.sigma_min = smallest
        ends.append(built(problem, *problem.inputs()))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ends[2], ends[1], rtol=1e-6, atol=1e-6)


def test_from_a_lower_sigma_on_it_is_as_near_as_on_its_own_schedule(file, problem):
    inputs, from_lower, errors = problem.inputs(100, seed=5), {}, {}
    for largest in (40.0, 30.0):
        for options in ({"interval": 1, "num_steps": 200}, {"calibration": file}, {"calls": CALLS}):
            built = sampler("HeunEDMSampler", scale=SCALE, **options)
            built.discretization.sigma_max = largest
            from_lower[largest, len(from_lower) % 3] = built(problem, *inputs)
        errors[largest] = [decibels(from_lower[largest, n], from_lower[largest, 0]) for n in (1, 2)]
    assert errors[30.0][0] > errors[40.0][0] - 1 and errors[30.0][0] > errors[30.0][1] + 5


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (
            {"sigma_max": 80.0},
            r"its schedule is 21 sigmas \(80, .* fitted for 21 sigmas \(40, .*5 calls serve .* from 40 or less",
        ),
        ({"sigma_max": 0.5}, r"its schedule is 21 sigmas \(0.5, .* but from more than"),
        ({"steps": 4}, r"its schedule is 5 sigmas .*; 5 calls serve every schedule of that many nodes"),
    ],
)
def test_a_schedule_outside_is_refused_in_one_line(file, problem, change, shown):
    built = sampler("HeunEDMSampler", scale=SCALE, calibration=file, num_steps=change.get("steps", 20))
    vars(built.discretization).update(change)
    with pytest.raises(ValueError, match=shown) as error:
        built(problem, *problem.inputs())
    assert "\n" not in str(error.value)


def test_a_schedule_that_does_not_end_at_0_is_refused(file, problem):
    built = sampler("HeunEDMSampler", scale=SCALE, calibration=file)
    whole = built.discretization
    built.discretization = lambda *args, **kwargs: whole(*args, **kwargs)[:-1]
    with pytest.raises(ValueError, match="falls to 0"):
        built(problem, *problem.inputs())


def test_on_its_own_schedule_rows_stay_as_they_are(tmp_path):
    calibration = Calibration.load(drawn("EulerEDMSampler", tmp_path / "drawn.yaml"))
    budget, sigmas = calibration.budget(), calibration.fitted.sigmas
    keeping = lambda weights: (abs(weights[0]), *weights[1:])  # noqa: E731  (x: what is left of its noise stays)
    rows = tuple(replace(row, weights=keeping(row.weights), low=keeping(row.low)) for row in budget.rows)
    budget = replace(budget, rows=rows)
    moved = on_schedule(budget, sigmas, sigmas, 2, calibration.history, 1.5)
    assert moved.budget.nodes == budget.nodes
    for ours, theirs in zip(moved.budget.rows, budget.rows, strict=True):
        assert (ours.step, ours.sigma, ours.call) == (theirs.step, theirs.sigma, theirs.call)
        assert ours.weights == pytest.approx(theirs.weights, abs=1e-9) and ours.low == pytest.approx(theirs.low, abs=1e-9)


def test_an_output_that_stays_is_followed_exactly():
    """Weights that repeat the newest output do so on every schedule."""
    sigmas, others = (8.0, 4.0, 2.0, 1.0, 0.0), (7.0, 6.0, 3.5, 2.5, 1.5, 1.1, 0.0)
    rows = [Row(n, sigma, n in (0, 2), (0.0, 1.0, *[0.0] * (n >= 2))) for n, sigma in enumerate(sigmas[:-1])]
    moved = on_schedule(Budget((0, 2), 0.0, tuple(rows)), sigmas, others, 1, 2, 1.0)
    assert moved.budget.nodes == (0, 3) and [row.call for row in moved.budget.rows] == [True, False, False, True, False, False]
    wanted = [(0, 1), (0, 1), (0, 1), (0, 0.625, 0.375), (0, 1, 0), (0, 1, 0)]  # from 2.5 to 2 it is still the first one
    assert all(row.weights == pytest.approx(weights, abs=1e-12) for row, weights in zip(moved.budget.rows, wanted, strict=True))
    (node, (sigma, row)), *others = moved.asked.items()
    assert (node, sigma) == (3, 2.0) and row.weights == pytest.approx((2 / 2.5, 1 - 2 / 2.5)) and not others


def test_calls_are_at_the_nearest_nodes_and_no_two_at_one():
    sigmas = [10.0, 5.0, 2.0, 1.0, 0.5]
    assert nearest(sigmas, [40.0, 5.2, 0.9]) == (0, 1, 3)
    assert nearest(sigmas, [9.0, 5.0, 4.9, 4.8]) == (0, 1, 2, 3)
    assert nearest(sigmas, [9.0, 0.6, 0.5, 0.4]) == (0, 2, 3, 4)


def test_what_leads_straight_there_is_a_line_in_log_sigma():
    points = [(4.0, Sum(0.0, {})), (1.0, Sum(1.0, {(0, 0): 2.0})), (0.0, Sum(9.0, {}))]
    assert along(points, 5.0) == points[0][1] and along(points, 0.5) == points[1][1] and along(points, 0) == points[2][1]
    assert along(points, 2.0).x == pytest.approx(0.5) and along(points, 2.0).outputs[0, 0] == pytest.approx(1.0)
    assert along(points, math.sqrt(2)).x == pytest.approx(0.75)


def test_weights_stay_small_where_the_fit_takes_all_of_x_away(tmp_path):
    """Weights that turn the sign of what is left of x: on the way x must not lose it."""
    sigmas = (8.0, 4.0, 2.0, 1.0, 0.0)
    rows = [Row(n, sigma, n == 0, (-1.5, 2.5)) for n, sigma in enumerate(sigmas[:-1])]
    moved = on_schedule(Budget((0,), 0.0, tuple(rows)), sigmas, [8 * 0.97**n for n in range(60)] + [0.0], 1, 1, 1.0)
    assert max(sum(map(abs, row.weights)) for row in moved.budget.rows) < 200
