"""Forecasts in diffusers: its schedulers around networks in closed form, where it is known what is right."""

import logging

import pytest
import torch

from problems import decibels

pytest.importorskip("diffusers")

from diffusers import LCMScheduler

from taylorseer_guider.adapters.diffusers import disable, enable
from taylorseer_guider.adapters.streams import noisy_part
from tiny_diffusers import SCHEDULERS, SD, Pipeline, mixture, sample

IMAGE = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(3, 4, 4)
LANDING = ("ddim", "ddim v", "euler", "euler karras", "euler sample", "svd", "heun", "flow")
NOISY = ("ancestral", "ddpm", "sde")
SMOOTH = tuple(name for name in SCHEDULERS if name not in LANDING + NOISY)
EXACT = {"interval": 1, "repeat_visits": "compute"}
CLOSE = {"unipc flow": 5e-3, "dpm v": 5e-3, "flow heun": 4e-4}  # the first two round the timesteps that the network is told
UNCOND, COND = torch.zeros(1, 1, 2), torch.ones(1, 1, 2)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def fixed(x, sigma, cond):
    """An image that is known from the start: another one under another condition."""
    return (IMAGE if cond is None else IMAGE.flip(-1) * (1 + cond.mean())).expand_as(x)


def guided(outputs, i):
    """Guidance of scale 3 where both branches were asked for, else the conditional one, which is the last."""
    return outputs[0] + 3 * (outputs[1] - outputs[0]) if len(outputs) == 2 else outputs[-1]


# What is forecast.


@pytest.mark.parametrize("name", SCHEDULERS)
def test_where_a_network_knows_the_image_a_run_of_four_calls_is_the_full_run(name):
    pipe = Pipeline(fixed, name)
    full = sample(pipe, 12)
    visits = pipe.unet.runs
    streams = enable(pipe, calls=4)
    x = sample(pipe, 12)
    assert pipe.unet.runs - visits == streams.report.calls == 4
    assert streams.report.forecasts == visits - 4 and streams.report.finished
    assert (x - full).abs().max() < CLOSE.get(name, 2e-4)


@pytest.mark.parametrize("name", LANDING)
def test_on_euler_and_heun_schedulers_half_of_the_calls_end_nearer_to_the_exact_picture_than_the_full_run(name):
    pipe = Pipeline(mixture(), name)
    full, exact = sample(pipe, 20), sample(pipe, 200)
    enable(pipe, calls=10)
    assert decibels(sample(pipe, 20), exact) > decibels(full, exact) + 5


@pytest.mark.parametrize(("name", "least"), [*((name, 25) for name in SMOOTH), *((name, 35) for name in NOISY)])
def test_on_other_schedulers_half_of_the_calls_end_near_the_full_run(name, least):
    pipe = Pipeline(mixture(), name)
    full = sample(pipe, 20)
    enable(pipe, calls=10)
    assert decibels(sample(pipe, 20), full) > least


@pytest.mark.slow
def test_the_table_of_the_page_holds(capsys):
    lines = []
    for name in SCHEDULERS:
        pipe = Pipeline(mixture(16), name)
        full, exact = sample(pipe, 20, batch=16), None if name in NOISY else sample(pipe, 200, batch=16)
        to_full, to_exact = [], []
        for options in ({}, {"forecast": {"quantity": "eps"}}, {"forecast": {"quantity": "denoised"}}):
            enable(pipe, calls=10, **options)
            x = sample(pipe, 20, batch=16)
            to_full.append(decibels(x, full))
            to_exact.append(0 if exact is None else decibels(x, exact))
            disable(pipe)
        first = 0 if exact is None else decibels(full, exact)
        pairs = zip(to_full, to_exact, strict=True)
        cells = [f"{near:.1f}" if exact is None else f"{near:.1f} / {nearer:.1f}" for near, nearer in pairs]
        lines.append(f"| {name} | {first:.1f} | {' | '.join(cells)} |")
        if name in LANDING:
            assert to_exact[0] > first + 3
        elif name in NOISY:
            assert to_full[0] > to_full[1] + 5
        else:
            assert to_full[0] == to_full[1] > 30
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def test_eps_stays_nearer_to_the_full_run_than_the_default():
    pipe = Pipeline(mixture(), "flow")
    full = sample(pipe, 20)
    enable(pipe, calls=10)
    default = decibels(sample(pipe, 20), full)
    enable(pipe, calls=10, forecast={"quantity": "eps"})
    assert decibels(sample(pipe, 20), full) > default + 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_stay_halves_and_lose_nothing_on_the_way_to_an_image_and_back(dtype):
    pipe = Pipeline(fixed, "euler")
    full = sample(pipe, 12, dtype=dtype)
    enable(pipe, calls=4)
    assert (sample(pipe, 12, dtype=dtype) - full).abs().max() < 8 * torch.finfo(dtype).eps
    assert pipe.unet(torch.ones(1, 3, 4, 4, dtype=dtype), 999.0, return_dict=False)[0].dtype == dtype


@pytest.mark.parametrize(
    ("given", "gives", "part"),
    [
        ((2, 4, 8, 8), (2, 4, 8, 8), (3, 8)),
        ((2, 9, 8, 8), (2, 4, 8, 8), (1, 4)),  # a mask and an image behind x
        ((2, 5, 8, 8, 8), (2, 5, 4, 8, 8), (2, 4)),  # SVD: the first frame
        ((2, 64, 384), (2, 64, 64), (2, 64)),
        ((2, 64, 16), (2, 32, 16), None),  # more tokens: which are x's?
        ((2, 3, 8, 8), (2, 6, 8, 8), None),  # with a learnt variance
        ((2, 4, 8, 8), (2, 4, 16, 16), None),
    ],
)
def test_the_noisy_part_of_what_a_network_is_given_is_found_by_the_shape_of_what_it_gives(given, gives, part):
    assert noisy_part(torch.empty(given), torch.empty(gives)) == part


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_flow_that_is_told_the_share_of_noise_is_known_from_the_first_visit_on(dtype):
    pipe = Pipeline(fixed, "flow")
    one, visits = pipe.unet.forward, []
    pipe.unet.forward = lambda sample, timestep, **kwargs: one(sample, 1000 * timestep.double(), **kwargs)
    made = enable(pipe, calls=4)
    pipe.scheduler.set_timesteps(12)
    for t in pipe.scheduler.timesteps:
        pipe.unet(torch.ones(1, 3, 4, 4), t.to(dtype) / 1000, return_dict=False)
        visits.append(made.report.visits[-1].node)
        pipe.scheduler._step_index = len(visits)
    assert visits == list(range(12)) and made.report.calls == 4


# What is not touched.


@pytest.mark.parametrize("name", SCHEDULERS)
def test_off_and_disabled_it_is_the_full_run_bit_for_bit(name):
    pipe = Pipeline(mixture(), name)
    full = sample(pipe, 8)
    for options in ({"use_cache": False}, EXACT):
        streams = enable(pipe, **options)
        assert torch.equal(sample(pipe, 8), full)
        assert (streams.report.calls, streams.report.forecasts) == (pipe.unet.runs // 2, 0)
        pipe.unet.runs //= 2
    enable(pipe, calls=3)
    disable(pipe)
    assert torch.equal(sample(pipe, 8), full)


def test_a_scheduler_whose_sigmas_are_not_known_computes_and_says_so(caplog):
    pipe = Pipeline(mixture(), "ddim")
    pipe.scheduler = LCMScheduler(**SD)
    full = sample(pipe, 4)
    streams = enable(pipe, calls=2)
    with caplog.at_level(logging.WARNING, "taylorseer_guider"):
        assert torch.equal(sample(pipe, 4), full)
    assert streams.report is None
    assert [record.message for record in caplog.records] == [
        "every visit computes: at which sigmas LCMScheduler with prediction_type 'epsilon' steps is not known"
    ]


def test_a_network_that_gives_two_tensors_runs_at_every_visit():
    class Two(Pipeline):
        def __init__(self):
            super().__init__(fixed, "ddim")
            one = self.unet.forward
            self.unet.forward = lambda sample, timestep, encoder_hidden_states=None, return_dict=True: (
                one(sample, timestep, return_dict=False) * 2
            )

    pipe = Two()
    enable(pipe, calls=4)
    sample(pipe, 12)
    assert pipe.unet.runs == 12


def test_what_cannot_be_enabled_is_named():
    with pytest.raises(ValueError, match="object has none of guider, .*unet, .*: there is nothing to forecast"):
        enable(type("object", (), {})(), calls=4)
    with pytest.raises(ValueError, match="unknown option cals: an adapter takes use_cache, interval"):
        enable(Pipeline(fixed, "ddim"), cals=4)


# Several runs of the network a step.


@pytest.mark.parametrize("anew", [False, True], ids=["kept", "made anew"])
@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "flow", "dpm", "pndm"])
def test_branches_of_guidance_that_run_one_after_the_other_are_forecast_each_from_its_own(name, anew):
    pipe = Pipeline(fixed, name)

    def conds(i):
        return (UNCOND.clone(), COND.clone()) if anew else (UNCOND, COND)

    full = sample(pipe, 12, conds, combine=guided)
    visits = pipe.unet.runs
    streams = enable(pipe, calls=4)
    assert (sample(pipe, 12, conds, combine=guided) - full).abs().max() < 5e-4
    assert pipe.unet.runs - visits == streams.report.calls == 8


@pytest.mark.parametrize("order", [(UNCOND, COND), (COND, UNCOND)], ids=["uncond first", "cond first"])
def test_guidance_that_is_off_for_a_while_mixes_no_branches(order):
    pipe = Pipeline(fixed, "euler")

    def conds(i):
        return order if i < 4 or i >= 8 else (COND,)

    def combine(outputs, i):
        return guided(outputs if order[0] is UNCOND else outputs[::-1], i) if len(outputs) == 2 else outputs[0]

    full = sample(pipe, 12, conds, combine=combine)
    streams = enable(pipe, calls=6)
    assert (sample(pipe, 12, conds, combine=combine) - full).abs().max() < 5e-4
    assert streams.report.calls < 16 and streams.report.finished


# One run and the next.


@pytest.mark.parametrize("name", ["ddim", "heun", "flow", "dpm", "pndm", "ancestral"])
def test_a_run_begins_afresh_after_one_of_another_length_size_or_batch_and_after_one_that_broke(name):
    pipe = Pipeline(mixture(), name)
    streams = enable(pipe, calls=4)
    alone = sample(pipe, 10)
    sample(pipe, 7)
    assert torch.equal(sample(pipe, 10), alone)
    sample(pipe, 10, x=torch.ones(1, 3, 4, 4, dtype=torch.float64))
    assert torch.equal(sample(pipe, 10), alone)
    pipe.unet.breaks = 3
    with pytest.raises(RuntimeError, match="broken"):
        sample(pipe, 10)
    assert torch.equal(sample(pipe, 10), alone)
    assert streams.report.calls == 4


def test_a_loop_that_sets_no_timesteps_again_begins_again_with_the_first():
    pipe = Pipeline(mixture(), "ddim")
    enable(pipe, calls=4)
    alone = sample(pipe, 10)
    assert torch.equal(sample(pipe, 10, begun=True), alone)


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "flow", "dpm", "unipc"])
def test_a_run_that_begins_in_the_middle_is_planned_over_what_is_left(name):
    pipe = Pipeline(fixed, name)
    full = sample(pipe, 20, start=8)
    visits = pipe.unet.runs
    streams = enable(pipe, calls=4)
    assert (sample(pipe, 20, start=8) - full).abs().max() < 2e-4
    assert (streams.report.calls, len(streams.report.visits)) == (4, visits)
    assert streams.report.visits[0].node == 0 and streams.report.finished


def test_more_calls_than_are_left_call_everywhere():
    pipe = Pipeline(fixed, "flow")
    streams = enable(pipe, calls=10)
    sample(pipe, 20, start=14)
    assert (streams.report.calls, streams.report.forecasts) == (6, 0)


def test_the_newest_options_hold_and_another_scheduler_is_noticed():
    pipe = Pipeline(fixed, "ddim")
    enable(pipe, calls=4)
    streams = enable(pipe, calls=6)
    sample(pipe, 12)
    assert pipe.unet.runs == streams.report.calls == 6
    pipe.scheduler = Pipeline(fixed, "dpm").scheduler
    sample(pipe, 10)
    assert len(streams.report.visits) == 10


@pytest.mark.parametrize(
    "given", [{"num_inference_steps": 10}, {"timesteps": [900, 800, 700, 500, 400, 300, 200, 100, 50, 0]}], ids=str
)
def test_ddpm_forecasts_over_timesteps_that_are_given_too(given):
    pipe = Pipeline(mixture(), "ddpm")
    streams = enable(pipe, calls=4)
    pipe.scheduler.set_timesteps(**given)
    sample(pipe, 10, begun=True)
    assert streams.report.calls == 4


@pytest.mark.parametrize("calls", [4, 8])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 5])
def test_pndm_may_begin_at_either_of_its_equal_timesteps(start, calls):
    pipe = Pipeline(mixture(), "pndm")
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    full, runs = sample(pipe, 20, x=x, start=start), pipe.unet.runs
    few = sample(pipe, 20, x=x, start=start)
    assert torch.equal(few, full)
    pipe.unet.runs, streams = 0, enable(pipe, calls=calls)
    image = sample(pipe, 20, x=x, start=start)
    assert pipe.unet.runs == streams.report.calls == calls and len(streams.report.visits) == runs
    assert [visit.sigma for visit in streams.report.visits] == sorted((v.sigma for v in streams.report.visits), reverse=True)
    assert torch.isfinite(image).all()
