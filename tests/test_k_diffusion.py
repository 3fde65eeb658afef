"""``Forecasting`` under k-diffusion's own samplers: bit-equal where it is off, calls counted, and how near it stays otherwise."""

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import taylorseer_guider
from bench.peers.solvers import k_diffusion_sampling
from loops import said
from problems import GaussianMixture
from standins import stand_ins
from taylorseer_guider.adapters.k_diffusion import Forecasting

if find_spec("k_diffusion") is None:
    pytest.skip("k-diffusion: pip install --no-deps k-diffusion", allow_module_level=True)
sampling = k_diffusion_sampling()
SOLVERS = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m")
STIRRING = ("dpmpp_2s_ancestral", "euler_ancestral", "dpmpp_sde", "dpm_2_ancestral", "dpmpp_2m_sde", "dpmpp_3m_sde")
STEPS, SCALE = 20, 3.0
NOISE = {"named": False, "interval": 2, "max_order": 1, "forecast": {"quantity": "eps"}, "repeat_visits": "reuse"}
pytestmark = pytest.mark.filterwarnings("ignore:Should have tb<=t1")  # torchsde's, of the last bit


class Guided:
    """A guided model in closed form, and its calls."""

    def __init__(self, batch=4, shape=(3, 4, 4)):
        self.problem = GaussianMixture(shape=shape, dtype=torch.float32)
        self.noise, self.cond, self.uc = self.problem.inputs(batch)
        self.calls = 0

    def __call__(self, x, sigma):
        self.calls += 1
        cond, uncond = self.problem(x, sigma, self.cond), self.problem(x, sigma, self.uc)
        return uncond + SCALE * (cond - uncond)


def schedule(steps=STEPS):
    return sampling.get_sigmas_karras(steps, 0.002, 40.0)


def sample(name, model, guided, sigmas=None, **options):
    """What ``sample_{name}`` makes of ``model`` and the noise of ``guided``, always with the same draws."""
    torch.manual_seed(0)
    sigmas = schedule() if sigmas is None else sigmas
    return getattr(sampling, f"sample_{name}")(model, guided.noise * sigmas[0], sigmas, disable=True, **options)


def forecast(name, guided, named=True, **options):
    """(the picture, the report) of a run of ``guided`` that is forecast, by a sampler that is ``named`` or not."""
    model = Forecasting(guided, schedule(), sampler=getattr(sampling, f"sample_{name}") if named else None, **options)
    return sample(name, model, guided), model.report


def far(found, other):
    """The relative error, in the mean over the pictures."""
    return float(((found - other).flatten(1).norm(dim=1) / other.flatten(1).norm(dim=1)).mean())


@pytest.mark.parametrize("options", [{"interval": 1, "repeat_visits": "compute"}, {"use_cache": False}])
@pytest.mark.parametrize("name", [*SOLVERS, *STIRRING])
def test_off_is_bit_equal_on_every_sampler(name, options):
    guided, plain = Guided(), Guided()
    found, report = forecast(name, guided, **options)
    assert torch.equal(found, sample(name, plain, plain))
    assert guided.calls == plain.calls == report.calls and report.forecasts == 0


@pytest.mark.parametrize(
    ("name", "more", "options"),
    [("dpm_fast", {"n": 11}, {"use_cache": False}), ("dpm_adaptive", {}, {}), ("dpm_adaptive", {}, {"interval": 3})],
)
def test_samplers_of_two_sigmas_are_bit_equal_when_off_and_those_that_choose_their_steps_always(name, more, options):
    guided, plain, solve = Guided(), Guided(), getattr(sampling, f"sample_{name}")
    model = Forecasting(guided, schedule(), sampler=solve, **options)
    found = solve(model, guided.noise * 40, 0.002, 40.0, disable=True, **more)
    assert torch.equal(found, solve(plain, plain.noise * 40, 0.002, 40.0, disable=True, **more))
    assert guided.calls == plain.calls


@pytest.mark.parametrize(
    ("name", "calls"),
    [*zip(SOLVERS, (10, 10, 20, 10, 10), strict=True), *zip(STIRRING, (19, 10, 20, 19, 10, 10), strict=True)],
)
def test_half_of_the_calls_are_saved_and_the_report_says_so(name, calls):
    guided = Guided()
    found, report = forecast(name, guided)
    assert guided.calls == report.calls == calls and found.isfinite().all()
    assert len(report.visits) == (39 if name in ("heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde") else 20)


@pytest.mark.parametrize("name", ["heun", "dpm_2", "dpmpp_2s_ancestral"])
def test_without_a_name_second_visits_and_midpoints_are_neither_tiles_nor_another_run(name, caplog):
    guided = Guided()
    _, report = forecast(name, guided, named=False)
    assert len(report.visits) == 39 and guided.calls in (19, 20) and not said(caplog)


def test_one_instance_serves_pictures_one_after_the_other():
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=sampling.sample_dpm_2)  # whose last visit is not known to be one
    first = sample("dpm_2", model, guided)
    calls, report = guided.calls, model.report
    guided.noise = guided.noise.flip(0)
    sample("dpm_2", model, guided)
    assert report.finished and guided.calls == 2 * calls
    guided.noise = guided.noise.flip(0)
    assert torch.equal(sample("dpm_2", model, guided), first)  # nothing is left of another picture


def test_a_run_that_was_broken_off_leaves_nothing_behind():
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=sampling.sample_heun)
    expected = sample("heun", model, guided)

    def breaks(state):
        if state["i"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample("heun", model, guided, callback=breaks)
    assert torch.equal(sample("heun", model, guided), expected)


def test_a_part_of_the_schedule_is_a_run():
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=sampling.sample_euler, interval=2)
    for _ in range(2):
        sample("euler", model, guided, schedule()[8:])
        assert model.report.calls == 6 and len(model.report.visits) == 12


def test_another_sampler_than_was_named_and_churn_go_on_as_unknown(caplog):
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=sampling.sample_euler)
    sample("heun", model, guided)
    assert guided.calls == 20 and len(said(caplog)) == 1  # one call more: the first output is asked for again
    model = Forecasting(guided, schedule(), sampler=sampling.sample_euler)
    sample("euler", model, guided, s_churn=5.0)
    assert len(said(caplog)) == 2 and model.report.forecasts


def test_the_packages_own_denoiser_keeps_its_attributes_and_gets_its_extra_args():
    with stand_ins(("accelerate", "cleanfid", "clip", "dctorch", "jsonmerge", "kornia", "torchvision", "wandb")):
        external = importlib.import_module("k_diffusion").external
    guided = Guided()
    denoiser = external.VDenoiser(lambda x, t, tilt=0.0: x.tanh() * t.cos().view(-1, 1, 1, 1) + tilt)
    model = Forecasting(denoiser, schedule(), sampler=sampling.sample_heun, use_cache=False)
    assert model.inner_model is denoiser.inner_model and model.sigma_to_t == denoiser.sigma_to_t
    assert not hasattr(model, "no_such_thing")
    found, plain = (sample("heun", each, guided, extra_args={"tilt": 0.3}) for each in (model, denoiser))
    assert torch.equal(found, plain) and not torch.equal(plain, sample("heun", denoiser, guided))


def test_gradients_compute(caplog):
    guided = Guided()
    sampling.log_likelihood(Forecasting(guided, schedule()), guided.noise, 0.002, 40.0, atol=1e-2, rtol=1e-2)
    assert guided.calls > 20 and "gradients" in caplog.text


def rows():
    """(name, the numbers of its row) of the page's table."""
    page = Path(taylorseer_guider.__file__).parent / "adapters" / "README.md"
    for line in page.read_text().splitlines():
        if found := re.match(r"\| `sample_(\w+)` \|(.+)\|", line):
            yield found[1], [float(cell) for cell in re.findall(r"\d*\.?\d+", found[2])]


@pytest.mark.slow
def test_the_pages_table_is_what_is_measured():
    guided = Guided(24, (3, 16, 16))
    exact, stated, measured = sample("heun", guided, guided, schedule(300)), dict(rows()), {}
    for name in (*SOLVERS, *STIRRING):
        full, row = sample(name, guided, guided), []
        for options in ({}, {"named": False}, NOISE):
            found, report = forecast(name, guided, **options)
            row += [report.calls, far(found, full)]
        if name in SOLVERS:
            row += [far(full, exact), far(forecast(name, guided)[0], exact)]
            guided.calls = 0
            fewer = sample(name, guided, guided, schedule({"heun": 6, "dpm_2": 10}.get(name, 10)))
            row += [guided.calls, far(fewer, exact)]
        measured[name] = [len(report.visits), *row]
        print(name, *(f"{number:.3f}".removesuffix(".000").removeprefix("0") for number in measured[name]))
    assert measured.keys() == stated.keys()
    for name, row in measured.items():
        assert row == pytest.approx(stated[name], abs=0.002, rel=0.01), name


def test_a_loop_that_is_cancelled_after_its_first_visit_spoils_one_more_at_most():
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=sampling.sample_euler, scale=SCALE)
    fresh = sample("euler", model, guided)

    def cancel(state):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample("euler", model, guided, callback=cancel)
    sample("euler", model, guided)
    assert torch.equal(sample("euler", model, guided), fresh)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": None}, "model=None: give what the sampler calls"),
        ({"sigmas": None}, "sigmas=None: give those"),
        ({"scale": "2"}, "scale='2': give the guidance scale"),
        ({"movable": True}, "unknown option movable"),
        ({"stepping": 3}, "unknown option stepping"),
        ({"sampler": "sample_heun"}, "sampler='sample_heun': give the function itself"),
    ],
    ids=str,
)
def test_mistakes_are_said_at_construction(options, told):
    with pytest.raises(ValueError, match=told):
        Forecasting(**{"model": Guided(), "sigmas": torch.tensor([2.0, 1.0, 0.0]), **options})
