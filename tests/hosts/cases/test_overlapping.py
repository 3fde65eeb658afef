"""Runs of real samplers that overlap, in threads and in loops by hand: each as alone, or computed with a word about it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from families import IMAGINAIRY, SGM
from loops import alone_or_computed, in_turn
from runs import Mixture, build, guided_by, own_guider

pytestmark = pytest.mark.host(IMAGINAIRY, SGM)
NAMES = ("EulerEDMSampler", "HeunEDMSampler")
STEPS = 8


class Job:
    """One picture, of its own prompt and size."""

    def __init__(self, seed):
        self.problem = Mixture(shape=(3, 4, 4 + 2 * (seed % 2)))
        self.inputs = self.problem.inputs(seed=seed)

    def denoiser(self, *visit):
        time.sleep(0)  # another thread's turn
        return self.problem(*visit)

    def by(self, sampler):
        x, cond, uc = self.inputs
        return sampler(self.denoiser, x.clone(), cond, uc)  # these hosts scale x in place

    def loop(self, sampler, announced):
        """The host's loop by hand, prepared now; yields x after every step."""
        x, cond, uc = self.inputs
        x, s_in, sigmas, count, cond, uc = sampler.prepare_sampling_loop(x.clone(), cond, uc)

        def walk(x):
            for i in sampler.get_sigma_gen(count) if announced else range(count - 1):
                x = sampler.sampler_step(s_in * sigmas[i], s_in * sigmas[i + 1], self.denoiser, x, cond, uc)
                yield x

        return walk(x)


def samplers(family, name, shared, count):
    """``count`` samplers that are one and the same, or that share a guider; and one with the host's own guider."""
    ours = [build(family, name, guided_by(family, interval=3), num_steps=STEPS) for _ in range(count)]
    for other in ours:
        other.guider = ours[0].guider
    return ours[:1] * count if shared == "sampler" else ours, build(family, name, own_guider(family), num_steps=STEPS)


@pytest.mark.parametrize("shared", ["guider", "sampler"])
@pytest.mark.parametrize("name", NAMES)
def test_runs_in_threads_are_those_alone_bit_for_bit(family, name, shared):
    jobs = [Job(seed) for seed in range(48)]
    ours, _ = samplers(family, name, shared, len(jobs))
    alone = [job.by(build(family, name, guided_by(family, interval=3), num_steps=STEPS)) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(torch.equal, pool.map(Job.by, jobs, ours), alone))


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("shared", ["guider", "sampler"])
@pytest.mark.parametrize("name", NAMES)
def test_loops_that_step_in_turn_do_not_mix(family, name, shared, announced, caplog):
    jobs = [Job(seed) for seed in range(3)]
    ours, own = samplers(family, name, shared, len(jobs))
    alone = [job.by(build(family, name, guided_by(family, interval=3), num_steps=STEPS)) for job in jobs]
    found = in_turn([job.loop(sampler, announced) for job, sampler in zip(jobs, ours, strict=True)])
    assert alone_or_computed(found, alone, [job.by(own) for job in jobs], caplog)
