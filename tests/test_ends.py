"""The end of a run and what is left of it; sampler classes that are made after the shim was installed."""

import gc
import threading

import pytest
import torch

from loops import by_hand, computed, in_turn, last, said
from problems import OURS, SAMPLERS, VANILLA, GaussianMixture, sample, sampler, sampler_config
from taylorseer_guider import TaylorSeerGuider, shim
from taylorseer_guider.standalone import sampling

TURNS = ("EulerEDMSampler", "HeunEDMSampler")
CONFIG = sampler_config("EulerEDMSampler")["params"]["discretization_config"]
STEPS = 8


def alive(shape):
    """How many tensors of this shape there are."""
    gc.collect()
    return sum(type(thing) is torch.Tensor and thing.shape == shape for thing in gc.get_objects())


def held_by(guider):
    """The tensors that can be reached from a guider, other than by its class."""
    seen, left, found = {id(guider)}, [guider], []
    while left:
        thing = left.pop()
        found += [thing] if isinstance(thing, torch.Tensor) else []
        for other in gc.get_referents(thing):
            if id(other) not in seen and not isinstance(other, (type, type(gc), type(alive))):
                seen.add(id(other))
                left.append(other)
    return found


def failing(x, sigma, cond):
    if sigma[0] < 1:
        raise RuntimeError("out of memory, say")
    return x / 2


def broken(built, inputs):
    with pytest.raises(RuntimeError, match="out of memory"):
        built(failing, *inputs)


def half_way(built, inputs, announced):
    loop = by_hand(built, lambda x, sigma, cond: x / 2, *inputs, STEPS, announced=announced)
    for _ in range(STEPS // 2):
        next(loop)


def in_a_thread(built, inputs):
    thread = threading.Thread(target=lambda: built(lambda x, sigma, cond: x / 2, *inputs))
    thread.start()
    thread.join()


ENDS = {
    "a call": lambda built, inputs: built(lambda x, sigma, cond: x / 2, *inputs),
    "a call in a thread": in_a_thread,
    "an error": broken,
    "a loop by hand": lambda built, inputs: last(by_hand(built, lambda x, sigma, cond: x / 2, *inputs)),
    "a loop over range": lambda built, inputs: last(by_hand(built, lambda x, sigma, cond: x / 2, *inputs, announced=False)),
    "a loop that is left": lambda built, inputs: half_way(built, inputs, True),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.slow
def test_nothing_of_a_run_is_left_once_it_has_ended(name, end):
    built, inputs = sampler(name, scale=0, interval=3, max_order=2), GaussianMixture((3, 5, 7)).inputs()
    before = alive((2, 3, 5, 7))
    ENDS[end](built, inputs)
    assert alive((2, 3, 5, 7)) == before and not held_by(built.guider)
    assert built.guider.report.visits and built.guider.report.finished


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("name", TURNS)
def test_nothing_is_left_of_a_loop_whose_sampler_is_gone(name, announced):
    inputs = GaussianMixture((3, 5, 6)).inputs()
    before = alive((2, 3, 5, 6))
    guider = TaylorSeerGuider(scale=0, interval=3)
    built = sampler(name)
    built.guider = guider
    half_way(built, inputs, announced)
    del built
    assert alive((2, 3, 5, 6)) == before and not held_by(guider)


@pytest.mark.parametrize("announced", [True, False])
def test_a_guider_holds_no_history_even_while_its_runs_are_under_way(announced):
    built, problem = sampler("HeunEDMSampler", interval=3), GaussianMixture((3, 5, 8))
    denoiser = lambda x, sigma, cond: problem(x, sigma, cond)  # noqa: E731
    before = alive((2, 3, 5, 8))
    loop = by_hand(built, denoiser, *problem.inputs(), STEPS, announced=announced)
    for _ in range(STEPS // 2):
        next(loop)
    problem.seen.clear()
    assert not held_by(built.guider)
    assert alive((2, 3, 5, 8)) > before + 1  # x and what history holds: there was something to find


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_loop_over_range_ends_its_run_with_its_last_visit(name, caplog):
    problem, built = GaussianMixture(), sampler(name, scale=2.0, interval=3)
    alone, _ = sample(name, problem, num_steps=STEPS, scale=2.0, interval=3)
    full = computed(name, problem, problem.inputs(), 2.0, STEPS)
    for _ in range(2):
        image = last(by_hand(built, problem, *problem.inputs(), STEPS, announced=False))
        assert built.guider.report.finished
        assert torch.equal(image, alone) or (torch.equal(image, full) and said(caplog))


class Bare:
    """All of a loop, without a word to the base class."""

    def prepare_sampling_loop(self, x, cond, uc=None, num_steps=None):
        sigmas = self.discretization(num_steps or self.num_steps)
        return x * (1 + sigmas[0] ** 2).sqrt(), x.new_ones(len(x)), sigmas, len(sigmas), cond, cond if uc is None else uc

    def get_sigma_gen(self, num_sigmas):
        return range(num_sigmas - 1)

    def denoise(self, x, denoiser, sigma, cond, uc):
        return self.guider(denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)

    def __call__(self, denoiser, x, cond, uc=None, num_steps=None):
        x, s_in, sigmas, count, cond, uc = self.prepare_sampling_loop(x, cond, uc, num_steps)
        for i in range(count - 1):
            x, _ = self.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, None)
        return x


LOOP = ("prepare_sampling_loop", "get_sigma_gen", "__call__")
OVERRIDDEN = [LOOP[:1], LOOP, ("denoise",), ("denoise", "__call__"), (*LOOP, "denoise")]


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("methods", OVERRIDDEN, ids="-".join)
@pytest.mark.parametrize("name", TURNS)
def test_a_sampler_class_that_is_made_after_the_shim_has_runs_of_its_own_or_computes(name, methods, called, caplog):
    """Beside the open run of another sampler of the same guider, whose history must not be met."""

    def own_class(target=OURS, **options):
        cls = type("Own", (getattr(sampling, name),), {method: vars(Bare)[method] for method in methods})
        return cls(CONFIG, STEPS, {"target": target, "params": {"scale": 2.0, **options}})

    def image(built):
        return built(problem, *problem.inputs()) if called else last(by_hand(built, problem, *problem.inputs()))

    problem, other = GaussianMixture(), sampler(name, scale=2.0, interval=3)
    open_loop = by_hand(other, problem, *problem.inputs(seed=1), STEPS + 3, announced=False)
    for _ in range(STEPS):
        next(open_loop)
    alone = image(own_class(interval=3))  # building the guider comes after the class, and wraps it
    late = own_class(VANILLA)
    full, late.guider = image(late), other.guider
    for found in (image(late), image(late)):
        assert torch.equal(found, alone) or (torch.equal(found, full) and said(caplog))


def test_without_the_shim_no_loop_meets_the_history_of_another(caplog):
    problem = GaussianMixture()
    jobs = [problem.inputs(seed=n) for n in range(2)]
    built = sampler("HeunEDMSampler", scale=2.0, interval=3)
    full = [computed("HeunEDMSampler", problem, inputs, 2.0, STEPS) for inputs in jobs]
    shim.uninstall()
    try:
        found = in_turn([by_hand(built, problem, *inputs, STEPS) for inputs in jobs])
    finally:
        shim.install()
    assert all(map(torch.equal, found, full)) and said(caplog)


@pytest.mark.parametrize("announced", [True, False])
def test_a_step_that_is_taken_again_after_its_denoiser_raised_counts_once(announced, caplog):
    def denoiser(*visit):
        attempts.append(visit)
        if len(attempts) == 3:
            raise MemoryError
        return problem(*visit)

    problem, built, attempts = GaussianMixture(), sampler("EulerEDMSampler", interval=3), []
    x, s_in, sigmas, count, cond, uc = built.prepare_sampling_loop(*problem.inputs())
    for i in built.get_sigma_gen(count) if announced else range(count - 1):
        step = x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, None
        try:
            x, _ = built.sampler_step(*step)
        except MemoryError:
            x, _ = built.sampler_step(*step)
    report = built.guider.report
    assert [visit.number for visit in report.visits] == list(range(20)) and report.calls == problem.calls
    assert torch.equal(x, sampler("EulerEDMSampler", interval=3)(problem, *problem.inputs())) and not caplog.records
