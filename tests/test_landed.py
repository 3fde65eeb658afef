"""Answers for Euler's step, solved for the step of a multistep host: at every step it is on the path of Euler's sampler."""

import itertools
import math

import pytest
import torch

from loops import by_hand, in_turn, last, said
from problems import EXACT, IDENTITY, VANILLA, GaussianMixture, begun, decibels, sample, sampler
from taylorseer_guider.landing import Landing
from taylorseer_guider.standalone.sampling import adams_bashforth
from taylorseer_guider.steps import DPMPP2M, LinearMultistep

HOSTS = ("DPMPP2MSampler", "LinearMultistepSampler")
SPARSE = {"plan": {"nodes": [0, 2, 3, 7, 11, 12, 18]}}


def path(name, target="taylorseer_guider.TaylorSeerGuider", problem=None, steps=20, dtype=torch.float64, inputs=None, **options):
    """x after every step of a sampler on a mixture, and the sampler."""
    problem = problem or GaussianMixture(spread=0.6, dtype=dtype)
    built = sampler(name, target, **{"scale": 1.5, **options})
    return list(by_hand(built, problem, *(inputs or problem.inputs()), steps)), built


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("options", [SPARSE, {"calls": 8}, {"calls": 8, "scale": 3.0}, {"interval": 1}, {"max_order": 3}])
def test_every_step_ends_where_eulers_does(name, options):
    for ours, eulers in zip(path(name, **options)[0], path("EulerEDMSampler", **options)[0], strict=True):
        torch.testing.assert_close(ours, eulers, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 50])
def test_however_many_steps_there_are(name, steps):
    found = [path(one, steps=steps, interval=2)[0] for one in (name, "EulerEDMSampler")]
    assert len(found[0]) == steps
    for ours, eulers in zip(*found, strict=True):
        torch.testing.assert_close(ours, eulers, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_linear_multistep_of_every_order_it_has(order):
    eulers, problem = path("EulerEDMSampler", calls=6)[0][-1], GaussianMixture(spread=0.6)
    built = sampler("LinearMultistepSampler", scale=1.5, calls=6)
    built.order = order
    torch.testing.assert_close(built(problem, *problem.inputs()), eulers, rtol=1e-9, atol=1e-9)
    assert problem.calls == 6


def test_an_order_that_is_not_known_is_not_landed():
    built = sampler("LinearMultistepSampler", scale=1.5)
    built.order = 5
    assert not isinstance(begun(built.guider, 2.0, 1.0, 0.0, sampler=built).policy, Landing)


@pytest.mark.parametrize("name", HOSTS)
def test_coefficients_are_those_of_the_hosts_step(name):
    """What the solved answer does in the host's own arithmetic, on outputs that are drawn."""
    built, drawn = sampler(name, IDENTITY), torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigmas, step = [9.0, 5.0, 4.0, 1.5, 0.7], {"DPMPP2MSampler": DPMPP2M(), "LinearMultistepSampler": LinearMultistep()}[name]
    built.denoise = lambda x, denoiser, sigma, cond, uc: answers[-1]
    x, state, answers, kept = drawn[0], None, [], []
    for n, (start, end) in enumerate(itertools.pairwise(sigmas)):
        wanted, known = drawn[n + 1], kept[: step.earlier]
        of_x, of_answer, *others = step.solved(end, [start, *(sigma for sigma, _ in known)])
        answers.append(of_x * x + of_answer * wanted + sum(w * tensor for w, (_, tensor) in zip(others, known, strict=True)))
        a, b = step.kept(start)
        kept.insert(0, (start, a * x + b * answers[-1]))
        euler = x + (x - wanted) / start * (end - start)
        x, state = built.sampler_step(x, torch.tensor([start] * 3), torch.tensor([end] * 3), None, {}, None, state)
        torch.testing.assert_close(x, euler, rtol=1e-6, atol=1e-6)


def test_a_host_whose_order_is_four_follows_a_cubic_slope():
    sigmas, end = (2.0, 2.5, 3.7, 4.0), 1.2
    coefficients = adams_bashforth([torch.tensor([sigma], dtype=torch.float64) for sigma in sigmas], torch.tensor([end]).double())
    found = sum(float(c) * sigma**3 for c, sigma in zip(coefficients, sigmas, strict=True))
    assert found == pytest.approx((end**4 - sigmas[0] ** 4) / 4)
    assert LinearMultistep().coefficients(end, sigmas) == pytest.approx([float(c) for c in coefficients])


@pytest.mark.parametrize("name", HOSTS)
def test_answers_do_not_grow(name):
    """What was answered before dies away, however long the run is."""
    found, built, problem = [], sampler(name, scale=1.5, calls=10, num_steps=200), GaussianMixture(spread=0.6)
    original = type(built).denoise
    built.denoise = lambda *args: found.append(original(built, *args)) or found[-1]
    built(problem, *problem.inputs())
    assert len(found) == 200 and max(answer.abs().max() for answer in found) < 20


@pytest.mark.parametrize("name", HOSTS)
def test_all_computed_is_the_hosts_own_run(name):
    problem = GaussianMixture()
    assert torch.equal(sample(name, problem, **EXACT, scale=2.0)[0], sample(name, problem, VANILLA, scale=2.0)[0])


@pytest.mark.parametrize("name", HOSTS)
def test_what_a_host_writes_into_an_answer_does_not_reach_the_next(name):
    class Writing(type(sampler(name, IDENTITY))):
        def denoise(self, *args):
            answer = super().denoise(*args)
            given = answer.clone()
            answer.fill_(math.nan)
            return given

    built, problem = sampler(name, scale=1.5, calls=8), GaussianMixture(spread=0.6)
    built.__class__ = Writing
    torch.testing.assert_close(built(problem, *problem.inputs()), path(name, calls=8)[0][-1], rtol=0, atol=0)


@pytest.mark.parametrize("name", HOSTS)
def test_loops_in_turn_do_not_share_what_was_answered(name):
    problem, inputs = GaussianMixture(spread=0.6), [GaussianMixture().inputs(seed=n) for n in range(3)]
    loops = [by_hand(sampler(name, scale=1.5, calls=8), problem, *each) for each in inputs]
    alone = [last(by_hand(sampler(name, scale=1.5, calls=8), problem, *each)) for each in inputs]
    assert all(map(torch.equal, in_turn(loops), alone))


def stepped(built, problem, nodes, x=None, change=lambda i, *state: state):
    """x after the steps of ``nodes``, by hand; ``change(i, x, s_in, cond, uc, state)`` may change what they are given."""
    begun_at, s_in, sigmas, _, cond, uc = built.prepare_sampling_loop(*problem.inputs())
    x, state = begun_at if x is None else x * sigmas[nodes[0]], None
    for i in nodes:
        x, s_in, cond, uc, state = change(i, x, s_in, cond, uc, state)
        x, state = built.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], problem, cond, uc, state)
    return x


@pytest.mark.parametrize("name", HOSTS)
def test_a_part_of_the_schedule_is_landed_once_the_host_is_known_to_go_by_what_is_remembered(name):
    """From a later node on, as picture to picture does by hand."""
    found = {}
    for one in (name, "EulerEDMSampler"):
        built, problem = sampler(one, scale=1.5, interval=3), GaussianMixture(spread=0.6)
        found[one] = stepped(built, problem, range(8, 20), problem.inputs()[0]), built.guider.report
    (x, report), (eulers, _) = found[name], found["EulerEDMSampler"]
    computed = {"DPMPP2MSampler": 0, "LinearMultistepSampler": 1}[name]  # node 9 is called in any case
    assert [visit.reason for visit in report.visits].count("not remembered") == computed
    assert decibels(x, eulers) > 30


@pytest.mark.parametrize("name", HOSTS)
def test_another_shape_in_mid_run_is_computed_until_the_host_has_answers_of_it(name, caplog):
    def halved(i, x, s_in, cond, uc, state):
        if i != 7:
            return x, s_in, cond, uc, state
        half = lambda value: value[:1] if torch.is_tensor(value) else type(value)(map(half, value))  # noqa: E731
        return x[:1], s_in[:1], *({"vector": each["vector"][:1]} for each in (cond, uc)), half(state)

    built, problem = sampler(name, scale=1.5, interval=5), GaussianMixture(spread=0.6)
    x = stepped(built, problem, range(20), change=halved)
    reasons = [visit.reason for visit in built.guider.report.visits]
    computed = name == "LinearMultistepSampler"
    assert reasons[7:10] == ["no history", *["not remembered" if computed else "skipped"] * 2]
    assert [log.getMessage().count("earlier answers") for log in said(caplog)] == [1] * computed
    full = stepped(sampler(name, VANILLA, scale=1.5), problem, range(20))
    assert decibels(x, full[:1]) > 15


@pytest.mark.parametrize("name", HOSTS)
def test_half_precision_stays_near(name):
    x32, x64 = (path(name, calls=8, dtype=dtype)[0][-1] for dtype in (torch.float32, torch.float64))
    assert decibels(x32, x64) > 90


def test_the_report_counts_what_is_remembered():
    peaks = [path(name, calls=8)[1].guider.report.peak_bytes for name in ("EulerEDMSampler", *HOSTS)]
    x = GaussianMixture().inputs()[0]
    size = x.numel() * x.element_size()
    assert [(peak - peaks[0]) // size for peak in peaks] == [0, 1, 3]
