"""Forecasts in diffusers' own pipelines, tiny and of random weights: classic ones by hooks, modular ones by their guiders."""

import functools

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers", reason="diffusers has its pipelines only beside it")

from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance, ClassifierFreeZeroStarGuidance
from diffusers.modular_pipelines.stable_diffusion_3.denoise import StableDiffusion3DenoiseStep
from diffusers.modular_pipelines.wan.denoise import Wan22DenoiseStep, WanDenoiseStep

from taylorseer_guider.adapters.diffusers import disable, enable
from tiny_diffusers import scheduler
from tiny_pipelines import PIPELINES, modular, numbers, wan_transformer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
EXACT = {"interval": 1, "repeat_visits": "compute"}
CASES = {  # a pipeline, its scheduler: runs of the network in 20 steps, and with 10 calls
    ("unconditional", "ddim"): (20, 10),
    ("sdxl", "euler"): (20, 10),
    ("sdxl", "ddim"): (20, 10),
    ("sdxl", "dpm"): (20, 10),
    ("sdxl", "heun"): (39, 10),
    ("svd", "svd"): (20, 10),
    ("sd3", "flow"): (20, 10),
    ("wan", "flow"): (40, 20),  # a run for each branch
    ("wan", "unipc flow"): (40, 20),
}


def counted(network):
    """A list that grows by one number with each run of ``network``."""
    original, runs = network.forward, []

    @functools.wraps(original)
    def forward(*args, **kwargs):
        runs.append(1)
        return original(*args, **kwargs)

    network.forward = forward
    return runs


def built(name, schedule):
    """(pipeline, the runs of its network, what makes its latents in so many steps)."""
    pipe, given = PIPELINES[name](scheduler(schedule))
    runs = counted(pipe.unet if hasattr(pipe, "unet") else pipe.transformer)

    def made(steps=20, **changed):
        rng = torch.Generator().manual_seed(3)
        return torch.as_tensor(pipe(**{**given, **changed}, num_inference_steps=steps, generator=rng, return_dict=False)[0])

    return pipe, runs, made


def off(x, other):
    return float((x - other).norm() / other.norm())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "schedule"), CASES)
def test_a_pipeline_calls_half_as_often_near_the_full_run_and_is_itself_when_off(name, schedule):
    pipe, runs, made = built(name, schedule)
    full = made()
    visits, calls = CASES[name, schedule]
    assert len(runs) == visits
    streams = enable(pipe, use_cache=False)
    assert torch.equal(made(), full) and streams.report.calls == visits
    streams = enable(pipe, calls=10, forecast={"quantity": "eps"})
    runs.clear()
    x = made()
    assert len(runs) == streams.report.calls == calls and streams.report.forecasts == visits - calls
    assert off(x, full) < 0.03
    made(7)
    assert torch.equal(made(), x)
    disable(pipe)
    assert torch.equal(made(), full)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "schedule", "share"),
    [("svd", "svd", 0.3), ("sdxl", "euler", 0.8), ("sd3", "flow", 0.7), ("unconditional", "ddim", 0.8)],
)
def test_half_of_the_calls_end_nearer_to_a_run_of_many_steps_than_the_full_run(name, schedule, share):
    pipe, _, made = built(name, schedule)
    full, exact = made(), made(120)
    enable(pipe, calls=10)
    assert off(made(), exact) < share * off(full, exact)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["ddim", "euler", "dpm", "heun"])
def test_image_to_image_is_planned_over_the_steps_that_its_strength_leaves(schedule):
    pipe, runs, made = built("sdxl img2img", schedule)
    given = {"image": numbers(1, 4, 8, 8), "strength": 0.6}
    full = made(**given)
    visits = len(runs)
    runs.clear()
    streams = enable(pipe, calls=5)
    x = made(**given)
    assert len(runs) == streams.report.calls == 5 and len(streams.report.visits) == visits
    assert off(x, full) < 0.03


# Modular pipelines.

LATENTS, PROMPT, NEGATIVE = numbers(1, 16, 2, 2, 2, seed=4), numbers(1, 6, 32), numbers(1, 6, 32, seed=2)


def denoised(pipe, steps=20, **given):
    given = {"latents": LATENTS.clone(), "prompt_embeds": PROMPT, "negative_prompt_embeds": NEGATIVE, **given}
    return pipe(**given, num_inference_steps=steps, dtype=torch.float32, output="latents")


def wan_modular(guider, schedule="flow"):
    transformer = wan_transformer()
    runs = counted(transformer)
    return modular(WanDenoiseStep, transformer=transformer, scheduler=scheduler(schedule), guider=guider), runs


@pytest.mark.parametrize("schedule", ["flow", "unipc flow"])
def test_a_modular_loop_runs_the_network_for_no_branch_where_its_guider_forecasts(schedule):
    pipe, runs = wan_modular(ClassifierFreeGuidance(guidance_scale=4.0), schedule)
    guider, full = pipe.guider, denoised(pipe)
    assert len(runs) == 40
    streams = enable(pipe, use_cache=False)
    assert torch.equal(denoised(pipe), full)
    streams = enable(pipe, calls=10)
    runs.clear()
    x = denoised(pipe)
    assert len(runs) == 20 and (streams.report.calls, streams.report.forecasts) == (10, 10)
    assert off(x, full) < 0.03
    twice = {"prompt_embeds": PROMPT.repeat(2, 1, 1), "negative_prompt_embeds": NEGATIVE.repeat(2, 1, 1)}
    denoised(pipe, 7, latents=numbers(2, 16, 2, 2, 4), **twice)
    assert torch.equal(denoised(pipe), x)
    disable(pipe)
    assert pipe.guider is guider and type(guider) is ClassifierFreeGuidance
    assert torch.equal(denoised(pipe), full)


@pytest.mark.parametrize(
    ("guider", "runs_of_full", "most"),
    [
        (ClassifierFreeGuidance(guidance_scale=1.0), 20, 10),
        (ClassifierFreeGuidance(guidance_scale=4.0, start=0.2, stop=0.7), 30, 18),  # begins with a call of each kind
        (ClassifierFreeZeroStarGuidance(guidance_scale=4.0), 40, 22),  # its first output is nothing to go by
        (AdaptiveProjectedGuidance(guidance_scale=4.0), 40, 20),
    ],
    ids=["scale 1", "part of the time", "zero star", "projected"],
)
def test_other_guiders_forecast_what_they_combine(guider, runs_of_full, most):
    pipe, runs = wan_modular(guider)
    full = denoised(pipe)
    assert len(runs) == runs_of_full
    runs.clear()
    enable(pipe, calls=10)
    assert off(denoised(pipe), full) < 0.04
    assert len(runs) <= most


def test_one_guider_under_two_names_forecasts_once():
    guider, transformer = ClassifierFreeGuidance(guidance_scale=4.0), wan_transformer()
    runs = counted(transformer)
    parts = {"transformer": transformer, "transformer_2": transformer, "guider": guider, "guider_2": guider}
    pipe = modular(Wan22DenoiseStep, scheduler=scheduler("flow"), **parts)
    full = denoised(pipe)
    runs.clear()
    enable(pipe, calls=5)
    assert off(denoised(pipe), full) < 0.1 and len(runs) == 10
    disable(pipe)
    assert type(guider) is ClassifierFreeGuidance and torch.equal(denoised(pipe), full)


def test_a_forecasting_guider_is_one_of_its_class_and_its_copies_forecast_too():
    pipe, runs = wan_modular(ClassifierFreeGuidance(guidance_scale=4.0))
    streams = enable(pipe, calls=5)
    assert isinstance(pipe.guider, ClassifierFreeGuidance) and type(pipe.guider).__name__ == "ClassifierFreeGuidance"
    pipe.update_components(guider=pipe.guider.new(guidance_scale=2.0))
    denoised(pipe)
    assert pipe.guider.guidance_scale == 2.0 and len(runs) == 10 and streams.report.calls == 5


def test_two_networks_that_share_a_run_share_its_plan():
    transformers = wan_transformer(), wan_transformer()
    runs = [counted(transformer) for transformer in transformers]
    guiders = ClassifierFreeGuidance(guidance_scale=4.0), ClassifierFreeGuidance(guidance_scale=3.0)
    parts = dict(zip(("transformer", "transformer_2", "guider", "guider_2"), (*transformers, *guiders), strict=True))
    pipe = modular(Wan22DenoiseStep, scheduler=scheduler("flow"), **parts)
    full = denoised(pipe)
    before = [len(each) for each in runs]
    streams = enable(pipe, calls=10)
    assert off(denoised(pipe), full) < 0.04
    assert sum(map(len, runs)) - sum(before) == 2 * streams.report.calls <= 22
    assert all(len(each) > count for each, count in zip(runs, before, strict=True))


def test_a_loop_that_hands_its_guider_no_latents_has_its_outputs_forecast():
    pipe, call = PIPELINES["sd3"](scheduler("flow"))
    runs = counted(pipe.transformer)
    given = {name: value for name, value in call.items() if "embeds" in name}
    parts = {"transformer": pipe.transformer, "scheduler": pipe.scheduler}
    made = modular(StableDiffusion3DenoiseStep, **parts, guider=ClassifierFreeGuidance(guidance_scale=4.0))
    full = denoised(made, latents=numbers(1, 4, 4, 4), **given)
    assert len(runs) == 40
    runs.clear()
    enable(made, calls=10)
    assert off(denoised(made, latents=numbers(1, 4, 4, 4), **given), full) < 0.03
    assert len(runs) == 20
