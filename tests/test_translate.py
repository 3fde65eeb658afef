"""A calibration of one sampler on another over the same schedule: the same calls, the same path, whatever its weights are."""

import pytest
import torch

from problems import IDENTITY, GaussianMixture, sample, sampler
from taylorseer_guider import Calibration
from taylorseer_guider.calibration.ode import stops
from taylorseer_guider.calibration_file import Budget, Fitted, Row
from taylorseer_guider.hosts import SAMPLERS
from taylorseer_guider.translate import ITSELF, Sum, leading, stepped

HOSTS = ("EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler", "LinearMultistepSampler")
NODES = (0, 1, 2, 5, 6, 9, 14, 15, 19)
HISTORY = 3


def calls_at(walk, nodes):
    """For each stop, whether the denoiser is called there: at the first visit of each of ``nodes`` (step indices)."""
    seen, calls = set(), []
    for stop in walk:
        node = stop.step + stop.corrector
        calls.append(node in nodes and node not in seen)
        seen.add(node)
    return calls


def drawn(name, path, branches=2, low=True, scales=(1.5,), steps=20, nodes=NODES, seed=0):
    """A file for the sampler ``name`` whose weights nobody has fitted: near to the newest output, and else drawn."""
    rng, rows, held = torch.Generator().manual_seed(seed), [], 0
    sigmas = tuple(sampler(name, scale=0).discretization(steps).tolist())
    visits = stops(SAMPLERS[name].method, sigmas)
    for stop, call in zip(visits, calls_at(visits, set(nodes)), strict=True):
        held += call
        count = 1 + branches * min(held, HISTORY)
        numbers = 0.2 * torch.randn(2, len(scales), count, generator=rng, dtype=torch.float64)
        numbers[0, :, 1:2] += 0.7
        weights, means = numbers.flatten(1).tolist()
        rows.append(Row(stop.step, stop.sigma, call, tuple(weights), tuple(means) if low else ()))
    budget = Budget(tuple(nodes), 0.0, tuple(rows))
    fitted = Fitted(name, "VanillaCFG" if branches == 2 else "IdentityGuider", tuple(scales), sigmas)
    Calibration(fitted, branches, HISTORY, {len(nodes): budget}).save(path)
    return str(path)


def ends(file, problem, scale, steps=20):
    """(where each of ``HOSTS`` ends with the calibration, the calls it made)."""
    found = []
    for name in HOSTS:
        problem.calls = 0
        found.append((sample(name, problem, scale=scale, calibration=file, num_steps=steps)[0], problem.calls))
    return found


@pytest.mark.parametrize("name", HOSTS[:2])
@pytest.mark.parametrize(("branches", "scale"), [(2, 1.5), (1, 0)])
@pytest.mark.parametrize("low", [False, True])
def test_every_host_ends_where_the_one_it_was_fitted_on_does(name, branches, scale, low, tmp_path):
    problem = GaussianMixture((3, 5, 9))  # blocks of four do not fit into it
    file = drawn(name, tmp_path / "drawn.yaml", branches, low, (scale,))
    (first, _), *_ = found = ends(file, problem, scale)
    for ended, calls in found:
        torch.testing.assert_close(ended, first, rtol=1e-7, atol=1e-7)
        assert calls == len(NODES)


@pytest.mark.parametrize("nodes", [(0,), (0, 1), tuple(range(8))])
def test_however_many_calls_there_are(nodes, tmp_path):
    problem = GaussianMixture((3, 4, 4))
    (first, _), *others = ends(drawn("HeunEDMSampler", tmp_path / "drawn.yaml", steps=8, nodes=nodes), problem, 1.5, steps=8)
    assert all(torch.allclose(ended, first, rtol=1e-7, atol=1e-7) and calls == len(nodes) for ended, calls in others)


def test_weights_for_a_range_of_scales_are_mixed_first(tmp_path):
    problem, file = GaussianMixture((3, 4, 4)), drawn("HeunEDMSampler", tmp_path / "drawn.yaml", scales=(1.0, 2.0, 3.0))
    (first, _), *others = ends(file, problem, 1.25)
    assert all(torch.allclose(ended, first, rtol=1e-7, atol=1e-7) for ended, _ in others)


def test_x_at_the_calls_is_the_same(tmp_path):
    problem, file = GaussianMixture((3, 4, 4)), drawn("HeunEDMSampler", tmp_path / "drawn.yaml")
    seen = {}
    for name in HOSTS:
        problem.seen.clear()
        sample(name, problem, scale=1.5, calibration=file)
        seen[name] = torch.stack(problem.seen)
        torch.testing.assert_close(seen[name], seen[HOSTS[0]], rtol=1e-7, atol=1e-7)


def test_a_sampler_whose_steps_are_not_known_is_refused(tmp_path):
    built = sampler("DPMPP2MSampler", scale=1.5, calibration=drawn("HeunEDMSampler", tmp_path / "drawn.yaml"))
    built.__class__ = type("SteppingByItself", (type(built),), {"sampler_step": type(built).sampler_step})
    problem = GaussianMixture((3, 4, 4))
    with pytest.raises(ValueError, match="SteppingByItself cannot be calibrated"):
        built(problem, *problem.inputs())


def test_what_else_a_calibration_is_for_is_still_asked(tmp_path):
    file, problem = drawn("HeunEDMSampler", tmp_path / "drawn.yaml"), GaussianMixture((3, 4, 4))
    with pytest.raises(ValueError, match=r"schedule is 9 sigmas.*fitted for 21 sigmas"):
        sample("DPMPP2MSampler", problem, scale=1.5, calibration=file, num_steps=8)
    with pytest.raises(ValueError, match="guider is IdentityGuider here"):
        sample("EulerEDMSampler", problem, scale=1.5, calibration=file, guider_config={"target": IDENTITY})


def test_the_answer_that_leads_to_the_end_of_a_step_is_the_one_that_it_was_answered_by():
    answer = Sum(0.25, {(0, 0): 0.5, (1, 0): -0.125})
    end = stepped(ITSELF, answer, 0.5)  # x / 2 + answer / 2
    assert end == Sum(0.625, {(0, 0): 0.25, (1, 0): -0.0625}) and leading(end, 0.5) == answer
