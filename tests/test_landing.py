"""The policy without a calibration where it is known how the host steps: every answer lands the host on the solver's path."""

import itertools
import math

import pytest
import torch

from problems import VANILLA, GaussianMixture, Listed, sample, sampler
from taylorseer_guider.landing import Landing, simpson
from taylorseer_guider.plan import above
from taylorseer_guider.schedule import Schedule
from taylorseer_guider.standalone.guiders import VanillaCFG
from taylorseer_guider.standalone.sampling import HeunEDMSampler

LAST = 0.002  # the last sigma of the schedule
HOSTS = ("EulerEDMSampler", "HeunEDMSampler")
SPARSE = {"plan": {"nodes": [0, 2, 3, 7, 11, 12, 18]}}


def exact_on_a_line(x, sigmas, level, slope):
    """x at the last of ``sigmas`` in a run of D = level + slope * asinh(sigma / 2)."""
    start, end = sigmas[0], sigmas[-1]
    total = torch.zeros_like(x)
    for a, b in itertools.pairwise(sigmas):
        points, shares = simpson(a, b)
        mean = sum(share * math.asinh(point / 2) for point, share in zip(points, shares, strict=True))
        total += (level + slope * mean) * (1 / b - 1 / a)
    return end * (x * math.sqrt(1 + start**2) / start + total)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_outputs_on_a_line_are_followed_to_rounding_however_the_host_steps(name, order):
    level, slope = torch.randn(2, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    built, seen = sampler(name, scale=0, max_order=order, **SPARSE), []

    def denoiser(x, sigma, cond):
        seen.append((x, sigma[0].item()))
        return (level + slope * torch.asinh(sigma / 2)[:, None]).expand_as(x)

    x = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    ended = built(denoiser, x, {})
    sigmas = built.discretization(20).double().tolist()
    assert [sigma for _, sigma in seen] == pytest.approx([sigmas[node] for node in SPARSE["plan"]["nodes"]])
    last = level + slope * math.asinh(sigmas[-2] / 2)
    torch.testing.assert_close(ended, last.expand_as(x), rtol=0, atol=1e-9)  # samplers end at the output of their last node
    for at, sigma in seen[2:]:  # the second call puts right what one output could not foretell
        known = [node for node in sigmas if node >= sigma * (1 - 1e-9)]
        torch.testing.assert_close(at, exact_on_a_line(x, known, level, slope), rtol=0, atol=1e-5)


def test_eulers_and_heuns_steps_land_on_one_path():
    ends = [sample(name, GaussianMixture(), scale=1.5, calls=8)[0] for name in HOSTS]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [*HOSTS, "DPMPP2MSampler", "LinearMultistepSampler"])
@pytest.mark.parametrize("calls", [1, 2, 5, 10, 13, 20])
def test_calls_have_even_gaps_whatever_the_host_steps_over(name, calls):
    """Where only their number is given: the host's steps decide neither where the network is asked nor where it ends."""
    problem, seen, ends = GaussianMixture(), [], []

    def denoiser(x, sigma, cond):
        seen.append(sigma[0].item())
        return problem(x, sigma, cond)

    for steps in (20, 27):
        built = sampler(name, scale=0, calls=calls)
        ends.append(built(denoiser, *problem.inputs(), num_steps=steps))
        called = [visit.asked or visit.sigma for visit in built.guider.report.visits if visit.action == "call"]
        assert called == pytest.approx(seen, rel=1e-6) and len(seen) == calls
        places = [above(sigma, seen[0], LAST / 2) for sigma in seen]
        gaps = [place - following for place, following in itertools.pairwise(places)]
        assert not gaps or gaps == pytest.approx([gaps[0]] * len(gaps), rel=1e-3)
        seen.clear()
    assert (ends[0] - ends[1]).norm() < 1e-6 * ends[0].norm()


def test_the_network_is_asked_on_the_solvers_path_between_the_hosts_nodes():
    """On outputs that are a line, what is asked at a sigma between nodes is the exact x there, from the second call on."""
    level, slope = torch.randn(2, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    built, seen = sampler("HeunEDMSampler", scale=0, calls=9), []

    def denoiser(x, sigma, cond):
        seen.append((x, sigma[0].item()))
        return (level + slope * torch.asinh(sigma / 2)[:, None]).expand_as(x)

    x = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    built(denoiser, x, {})
    for at, sigma in seen[2:]:
        torch.testing.assert_close(at, exact_on_a_line(x, [seen[0][1], sigma], level, slope), rtol=0, atol=1e-5)


def test_what_is_asked_between_nodes_is_as_exact_as_the_hosts_x_whatever_the_outputs_dtype():
    problem, seen = GaussianMixture(), []

    def denoiser(x, sigma, cond):
        seen.append(x)
        return problem(x, sigma, cond).bfloat16()

    sampler("HeunEDMSampler", scale=0, calls=9)(denoiser, *problem.inputs())
    for x in seen[1:]:
        assert x.dtype == torch.float64 and not torch.equal(x, x.bfloat16().double())


class Turned(HeunEDMSampler):
    """A host whose guider combines by a scale that it is told at each visit, as CogVideoX's does."""

    def denoise(self, x, denoiser, sigma, cond, uc):
        denoised = denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc))
        return self.guider(denoised, sigma, 1.0 + 0.1 * float(sigma[0]))


class ByVisit(VanillaCFG):
    def __call__(self, x, sigma, scale=None):
        uncond, cond = x.chunk(2)
        return uncond + (self.scale if scale is None else scale) * (cond - uncond)


def test_where_branches_are_remembered_and_not_what_they_make_the_network_is_asked_at_the_hosts_sigmas():
    problem, ends = GaussianMixture(), []
    wrapped = {"target": f"{__name__}.ByVisit", "params": {"scale": 1.5}}
    for options in ({"use_cache": False}, {"calls": 12}):
        built = sampler("HeunEDMSampler", guider_config=wrapped, **options)
        built.__class__ = Turned
        ends.append(built(problem, *problem.inputs()))
    report = built.guider.report
    assert report.calls == 12 and {visit.asked for visit in report.visits} == {None}
    assert (ends[1] - ends[0]).norm() < 0.1 * ends[0].norm()


@pytest.mark.parametrize("options", [{"interval": 2}, {"plan": {"nodes": [0, 5, 9]}}, {"calls": 8, "step_threshold": 5.0}])
def test_where_calls_are_placed_by_hand_the_network_is_asked_at_the_hosts_own(options):
    _, built = sample("HeunEDMSampler", GaussianMixture(), scale=1.5, **options)
    assert {visit.asked for visit in built.guider.report.visits} == {None}
    assert built.guider.policy(Schedule(built.discretization(20)), built, torch.float64).settings.max_order == 2


def test_a_call_costs_nothing_more_than_the_plan_says():
    problem = GaussianMixture()
    _, built = sample("HeunEDMSampler", problem, **SPARSE)
    assert problem.calls == built.guider.report.calls == 7


@pytest.mark.parametrize("name", HOSTS)
def test_every_node_called_is_nearer_to_the_exact_solution_than_the_hosts_own_run(name):
    problem = GaussianMixture(spread=0.6)
    exact, _ = sample("HeunEDMSampler", problem, VANILLA, num_steps=400, scale=1.5)
    full, _ = sample(name, problem, VANILLA, scale=1.5)
    landed, _ = sample(name, problem, interval=1, scale=1.5)
    assert (landed - exact).norm() < 0.5 * (full - exact).norm()


def test_the_error_falls_with_more_than_the_square_of_the_step():
    problem = GaussianMixture(spread=0.6)
    exact, _ = sample("HeunEDMSampler", problem, VANILLA, num_steps=2000, scale=1.5)
    errors = [(sample("EulerEDMSampler", problem, num_steps=n, interval=1, scale=1.5)[0] - exact).norm() for n in (60, 120)]
    assert errors[0] / errors[1] > 2**2


def test_the_corrector_is_what_brings_it_nearer(monkeypatch):
    problem = GaussianMixture(spread=0.6)
    exact, _ = sample("HeunEDMSampler", problem, VANILLA, num_steps=400, scale=1.5)
    errors = []
    for _ in range(2):
        errors.append((sample("HeunEDMSampler", problem, interval=2, scale=1.5)[0] - exact).norm())
        monkeypatch.setattr(Landing, "_off", lambda self, sigmas, visit: [0.0] * len(sigmas))
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("options", [{"quantity": "eps"}, {"basis": "taylor"}, {"repeat_visits": "later"}, {"tolerance": 0.1}])
def test_who_names_what_is_forecast_gets_that(options):
    built = sampler("HeunEDMSampler", **options)
    assert not isinstance(policy_of(built), Landing)


@pytest.mark.parametrize("name", [*HOSTS, "DPMPP2MSampler", "LinearMultistepSampler"])
def test_only_samplers_whose_steps_are_known_are_landed(name):
    built = sampler(name)
    assert isinstance(policy_of(built), Landing)
    built.__class__ = type("SteppingByItself", (type(built),), {"sampler_step": type(built).sampler_step})
    assert not isinstance(policy_of(built), Landing)


def policy_of(built):
    return built.guider.policy(Schedule(built.discretization(20)), built, torch.float64)


def test_shares_of_a_stretch_are_a_mean_over_one_over_sigma():
    points, shares = simpson(8.0, 0.5)
    assert sum(shares) == pytest.approx(1) and all(share > 0 for share in shares)
    mean_of_sigma = sum(share * point for share, point in zip(shares, points, strict=True))
    assert mean_of_sigma == pytest.approx(math.log(8.0 / 0.5) / (1 / 0.5 - 1 / 8.0), rel=1e-4)


@pytest.mark.parametrize("name", [*HOSTS, "DPMPP2MSampler", "LinearMultistepSampler"])
def test_as_many_calls_are_made_as_are_said_where_a_schedule_stops_short_of_0(name):
    problem, built = GaussianMixture(), sampler(name, scale=1.0, calls=5)
    built.discretization = Listed(*sampler(name).discretization(20)[:12].tolist())
    full = sampler(name, VANILLA, scale=1.0)
    full.discretization = built.discretization
    found, aimed = built(problem, *problem.inputs()), full(problem, *problem.inputs())
    assert built.guider.report.calls == 5
    assert float((found - aimed).norm() / aimed.norm()) < 0.1


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("options", [{}, {"interval": 1}, {"calls": 4}, {"plan": {"nodes": [0, 2, 4]}}, {"step_threshold": 5.0}])
def test_a_schedule_may_stand_still(name, options):
    problem, built = GaussianMixture(), sampler(name, scale=1.0, **options)
    built.discretization = Listed(40.0, 10.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.01, 0.0)
    assert built(problem, *problem.inputs()).isfinite().all()


def test_where_an_output_has_a_gradient_the_denoiser_is_asked_at_the_hosts_own_sigmas():
    problem, built = GaussianMixture(), sampler(HOSTS[0], scale=1.0)
    share = torch.ones((), dtype=torch.float64, requires_grad=True)
    known, seen = built.discretization(20)[:-1].tolist(), []

    def denoiser(x, sigma, cond):
        seen.append(float(sigma[0]))
        return problem(x.detach(), sigma, cond) * share

    built(denoiser, *problem.inputs())
    assert len(seen) > 1 and all(sigma in known for sigma in seen)


@pytest.mark.parametrize("name", [*HOSTS, "DPMPP2MSampler", "LinearMultistepSampler"])
def test_a_schedule_that_is_cut_to_nothing_is_walked_in_no_step(name):
    """As that of an image that is not to be changed."""
    problem, built, full = GaussianMixture(), sampler(name, scale=1.0), sampler(name, VANILLA, scale=1.0)
    built.discretization = full.discretization = Listed(0.0)
    assert torch.equal(built(problem, *problem.inputs()), full(problem, *problem.inputs())) and problem.calls == 0
