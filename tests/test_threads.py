"""Runs that overlap, in threads, tasks and loops by hand: each has a run of its own, or computes and says so."""

import asyncio
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from loops import alone_or_computed, by_hand, computed, in_a_thread, in_turn, last, sharing
from problems import SAMPLERS, GaussianMixture, runs, sampler
from taylorseer_guider import calibrate

OPTIONS = {"scale": 2.0, "interval": 3}
STEPS = 8
TURNS = ("EulerEDMSampler", "HeunEDMSampler")
SHARED = ("guider", "sampler")


class Job:
    """One picture to sample: its prompt, size, length of schedule and sampler, and how it comes out alone and computed."""

    def __init__(self, seed, name, width=4, steps=STEPS):
        self.problem, self.name, self.steps = GaussianMixture((3, 4, width)), name, steps
        self.inputs = self.problem.inputs(seed=seed)

    def denoiser(self, x, sigma, cond):
        time.sleep(0)  # another thread's turn
        return self.problem(x, sigma, cond)

    def by(self, built):
        return built(self.denoiser, *self.inputs, num_steps=self.steps)

    def loop(self, built, **options):
        return by_hand(built, self.denoiser, *self.inputs, self.steps, **options)

    @property
    def alone(self):
        return self.by(sampler(self.name, **OPTIONS))

    @property
    def full(self):
        return computed(self.name, self.problem, self.inputs, OPTIONS["scale"], self.steps)


def several(name, count=3):
    """Jobs that differ in their prompts, then in size and schedule, too."""
    return [Job(seed, name, width=4 + 2 * (seed > 1), steps=STEPS + 3 * (seed > 1)) for seed in range(count)]


def check(found, jobs, caplog):
    assert alone_or_computed(found, [job.alone for job in jobs], [job.full for job in jobs], caplog)


@pytest.fixture
def hasty():
    """Threads that are interrupted a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.slow
def test_200_runs_in_8_threads_are_those_alone_bit_for_bit(shared, hasty):
    names = [SAMPLERS[n % 3] if shared == "guider" else "HeunEDMSampler" for n in range(200)]
    jobs = [Job(n, name, width=4 + n % 2, steps=5 + n % 3) for n, name in enumerate(names)]
    alone = [job.alone for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(Job.by, jobs, sharing(shared, names, **OPTIONS)))
    wrong = [n for n, pair in enumerate(zip(alone, together, strict=True)) if not torch.equal(*pair)]
    assert not wrong


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("name", TURNS)
def test_tasks_that_wait_between_their_steps_do_not_mix(name, shared, caplog):
    async def walk(loop):
        for x in loop:  # noqa: B007
            await asyncio.sleep(0)
        return x

    async def all_of(jobs, samplers):
        return await asyncio.gather(*(walk(job.loop(built)) for job, built in zip(jobs, samplers, strict=True)))

    jobs = several(name, 8)
    check(asyncio.run(all_of(jobs, sharing(shared, [name] * 8, **OPTIONS))), jobs, caplog)


async def step_elsewhere(job, built, hand_over):
    """A loop whose steps are taken by ``hand_over(function, *arguments)``, an awaitable that runs it in some thread."""
    x, s_in, sigmas, count, cond, uc = built.prepare_sampling_loop(*job.inputs, job.steps)
    state = None
    for i in built.get_sigma_gen(count):
        await asyncio.sleep(0)
        step = x, s_in * sigmas[i], s_in * sigmas[i + 1], job.denoiser, cond, uc, state
        x, state = await hand_over(built.sampler_step, *step)
    return x


@pytest.mark.parametrize("context", ["copied", "empty"])
@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("name", TURNS)
def test_steps_that_are_taken_in_other_threads_do_not_mix(name, shared, context, caplog):
    """``to_thread`` hands the context over, ``run_in_executor`` does not."""

    async def all_of(jobs, samplers):
        run = asyncio.get_running_loop().run_in_executor
        hand_over = asyncio.to_thread if context == "copied" else lambda *step: run(None, *step)
        return await asyncio.gather(*(step_elsewhere(*pair, hand_over) for pair in zip(jobs, samplers, strict=True)))

    jobs = several(name, 6)
    check(asyncio.run(all_of(jobs, sharing(shared, [name] * 6, **OPTIONS))), jobs, caplog)


@pytest.mark.parametrize("shared", SHARED)
def test_whole_runs_in_the_threads_of_a_task_are_those_alone(shared, hasty):
    async def all_of(jobs, samplers):
        return await asyncio.gather(*(asyncio.to_thread(job.by, built) for job, built in zip(jobs, samplers, strict=True)))

    jobs = several("HeunEDMSampler", 16)
    found = asyncio.run(all_of(jobs, sharing(shared, ["HeunEDMSampler"] * 16, **OPTIONS)))
    assert all(torch.equal(x, job.alone) for x, job in zip(found, jobs, strict=True))


@pytest.mark.parametrize("prepared", ["together", "in turn"])
@pytest.mark.parametrize("shared", [*SHARED, "nothing"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_loops_that_step_in_turn_do_not_mix(name, shared, prepared, caplog):
    def late(job, built):
        yield from job.loop(built)

    jobs = several(name)
    start = Job.loop if prepared == "together" else late
    loops = [start(job, built) for job, built in zip(jobs, sharing(shared, [name] * 3, **OPTIONS), strict=True)]
    check(in_turn(loops), jobs, caplog)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shared", SHARED)
def test_loops_that_step_in_any_order_do_not_mix(shared, seed, caplog):
    rng, names = random.Random(seed), [TURNS[seed % 2]] * 4
    jobs, left, found = several(names[0], 4), {}, [None] * 4
    for n, (job, built) in enumerate(zip(jobs, sharing(shared, names, **OPTIONS), strict=True)):
        left[n] = job.loop(built)
    while left:
        n = rng.choice(list(left))
        for _ in range(rng.randint(1, 4)):
            try:
                found[n] = next(left[n])
            except StopIteration:
                del left[n]
                break
    check(found, jobs, caplog)


@pytest.mark.parametrize("shared", [*SHARED, "nothing"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_loops_in_lockstep_are_each_as_alone_or_computed(name, shared, caplog):
    """Both announce their steps before either takes one."""
    jobs, samplers = several(name, 2), sharing(shared, [name] * 2, **OPTIONS)
    loops = [list(built.prepare_sampling_loop(*job.inputs, STEPS)) for job, built in zip(jobs, samplers, strict=True)]
    states = [None, None]
    for steps in zip(*(built.get_sigma_gen(loop[3]) for built, loop in zip(samplers, loops, strict=True)), strict=False):
        for n, (i, loop, built) in enumerate(zip(steps, loops, samplers, strict=True)):
            x, s_in, sigmas, _, cond, uc = loop
            step = x, s_in * sigmas[i], s_in * sigmas[i + 1], jobs[n].problem, cond, uc, states[n]
            loop[0], states[n] = built.sampler_step(*step)
    check([loop[0] for loop in loops], jobs, caplog)


@pytest.mark.parametrize("announced", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("name", SAMPLERS)
def test_loops_that_announce_nothing_do_not_mix(name, shared, announced, caplog):
    jobs, samplers = several(name, 2), sharing(shared, [name] * 2, **OPTIONS)
    loops = [job.loop(built, announced=said) for job, built, said in zip(jobs, samplers, announced, strict=True)]
    check(in_turn(loops), jobs, caplog)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_loop_that_is_left_half_way_changes_nothing_of_the_next(name, shared, announced, caplog):
    left, after = several(name, 2)
    first, second = sharing(shared, [name] * 2, **OPTIONS)
    loop = left.loop(first, announced=announced)
    for _ in range(STEPS // 2):
        next(loop)
    found = [last(after.loop(second, announced=announced)), after.by(second)]
    check(found, [after, after], caplog)
    assert torch.equal(found[1], after.alone)


@pytest.mark.parametrize("outer", ["called", "by hand"])
@pytest.mark.parametrize("inner", ["called", "by hand"])
@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("name", TURNS)
def test_a_denoiser_that_samples_itself_is_another_run(name, shared, inner, outer):
    job, within = Job(0, name), Job(1, name, steps=3)
    samplers = sharing(shared, [name] * 2, **OPTIONS)

    def denoiser(x, sigma, cond):
        image = within.by(samplers[1]) if inner == "called" else last(within.loop(samplers[1]))
        return job.problem(x, sigma, cond) + 0.01 * image.mean()

    offset = 0.01 * within.alone.mean()
    alone = sampler(name, **OPTIONS)(lambda *visit: job.problem(*visit) + offset, *job.inputs, num_steps=STEPS)
    walk = (denoiser, *job.inputs, STEPS)
    found = samplers[0](*walk) if outer == "called" else last(by_hand(samplers[0], *walk))
    assert torch.equal(found, alone)


@pytest.mark.parametrize("shared", SHARED)
def test_between_the_steps_of_several_loops_the_report_is_that_of_the_loop_that_stepped_last(shared):
    jobs = several("HeunEDMSampler")
    samplers = sharing(shared, ["HeunEDMSampler"] * 3, **OPTIONS)
    loops = [job.loop(built) for job, built in zip(jobs, samplers, strict=True)]
    for step in range(STEPS - 1):
        for job, built, loop in zip(jobs, samplers, loops, strict=True):
            next(loop)
            report = built.guider.report
            assert (report.calls, report.visits[-1].step, report.finished) == (job.problem.calls, step, False)
    for loop in loops:
        last(loop)
    assert samplers[0].guider.report.finished


@pytest.mark.parametrize("outer", ["called", "by hand"])
@pytest.mark.parametrize("inner", TURNS)
def test_a_denoiser_that_takes_one_step_of_another_loop_leaves_both_as_alone(inner, outer):
    """Heun's second visit of a step comes after the other loop has announced one of its own."""
    job, other = Job(0, "HeunEDMSampler"), Job(1, inner, steps=12)
    built, second = sharing("guider", ["HeunEDMSampler", inner], **OPTIONS)
    loop, walked = other.loop(second), []

    def denoiser(x, sigma, cond):
        walked.extend(x for x, _ in zip(loop, range(1), strict=False))
        return job.problem(x, sigma, cond)

    if outer == "called":
        found = built(denoiser, *job.inputs, num_steps=STEPS)
    else:
        found = last(by_hand(built, denoiser, *job.inputs, STEPS))
    assert torch.equal(found, job.alone) and torch.equal([*walked, *loop][-1], other.alone)


def test_a_loop_that_steps_between_two_visits_of_another_is_not_asked_for_the_second(caplog):
    job, other = Job(0, "HeunEDMSampler"), Job(1, "EulerEDMSampler", steps=40)
    built, second = sharing("guider", ["HeunEDMSampler", "EulerEDMSampler"], **OPTIONS)
    loop, denoise = other.loop(second), built.denoise

    def and_a_step_of_the_other(*visit):
        output = denoise(*visit)
        next(loop)
        return output

    built.denoise = and_a_step_of_the_other
    built(job.problem, *job.inputs, num_steps=STEPS)
    visits = built.guider.report.visits
    assert [visit.step for visit in visits] == sorted(visit.step for visit in visits) and len(visits) <= 2 * STEPS - 1
    assert any("several loops" in log.message for log in caplog.records)


def test_a_picture_of_another_thread_goes_on_where_its_sampler_is_calibrated_meanwhile():
    job, built, found = Job(0, "HeunEDMSampler"), sampler("HeunEDMSampler", **OPTIONS), []
    prepare = built.prepare_sampling_loop

    def prepare_while_another_samples(*args, **kwargs):
        if not found and threading.current_thread() is threading.main_thread():
            in_a_thread(lambda: found.append(job.by(built)))
        return prepare(*args, **kwargs)

    built.prepare_sampling_loop = prepare_while_another_samples
    calibrate(built, job.problem, runs(job.problem, 1, 4), calls=3, substeps=2, refine=0, progress=False)
    assert torch.equal(found[0], job.alone)
