"""``Forecasting`` where a loop of k-diffusion's is left, shared, wrapped from inside, churned, or not what it was said to be."""

import functools
import sys
import threading

import pytest
import torch

from taylorseer_guider.adapters.k_diffusion import Forecasting, stepping
from taylorseer_guider.steps import LinearMultistep
from test_k_diffusion import SCALE, Guided, forecast, sample, sampling, schedule

pytestmark = pytest.mark.filterwarnings("ignore:Should have tb<=t1")  # torchsde's, of the last bit


class Breaking(Guided):
    """A guided model that is interrupted at its ``last`` call."""

    last = None

    def __call__(self, x, sigma):
        if self.calls + 1 == self.last:
            self.last = None
            raise KeyboardInterrupt
        return super().__call__(x, sigma)


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde"])
def test_after_a_run_that_was_interrupted_in_the_model_one_that_begins_lower_knows_nothing_of_it(name):
    guided = Breaking()
    model = Forecasting(guided, schedule())
    alone = sample(name, model, guided, schedule()[8:])
    model.end()
    guided.last = guided.calls + 4
    with pytest.raises(KeyboardInterrupt):
        sample(name, model, guided)
    assert torch.equal(sample(name, model, guided, schedule()[8:]), alone)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m"])
def test_a_named_run_that_was_left_and_one_that_begins_lower_are_both_the_samplers(name):
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=getattr(sampling, f"sample_{name}"))
    whole, part = sample(name, model, guided), sample(name, model, guided, schedule()[8:])
    model.end()

    def leave(state):
        if state["i"] == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(name, model, guided, callback=leave)
    assert torch.equal(sample(name, model, guided, schedule()[8:]), part)
    assert torch.equal(sample(name, model, guided), whole)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "lms"])
def test_branches_that_are_asked_for_one_after_the_other_compute(name):
    guided = Guided()
    calls = []

    def network(x, sigma, cond):
        calls.append(cond)
        return guided.problem(x, sigma, cond)

    def doubled(model):
        def both(x, sigma):
            cond, uncond = (model(x, sigma, cond=each) for each in (guided.cond, guided.uc))
            return uncond + SCALE * (cond - uncond)

        return both

    full = sample(name, doubled(network), guided)
    made = len(calls)
    model = Forecasting(network, schedule(), sampler=getattr(sampling, f"sample_{name}"))
    for _ in range(2):
        calls.clear()
        assert torch.equal(sample(name, doubled(model), guided), full) and len(calls) == made


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("churn", [1.0, 5.0, 40.0])
def test_a_churned_heun_is_one_loop(named, churn):
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=sampling.sample_heun if named else None)
    sample("heun", model, guided, s_churn=churn)
    assert guided.calls <= 24 and model.report.calls >= guided.calls - 2 and len(model.report.visits) >= 37


@pytest.mark.parametrize("churn", [1.0, 5.0])
def test_dpm_2_is_the_same_named_and_not(churn):
    guided = Guided()
    named, plain = (
        sample("dpm_2", Forecasting(guided, schedule(), sampler=sampler), guided, s_churn=churn)
        for sampler in (sampling.sample_dpm_2, None)
    )
    assert torch.equal(named, plain)


def test_threads_that_share_an_instance_break_nothing():
    """Whose loop it is changes at every turn, and less is forecast."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    guided = [Guided(2) for _ in range(3)]
    here = threading.local()
    model = Forecasting(lambda x, sigma: here.guided(x, sigma), schedule(), sampler=sampling.sample_euler)
    found, errors = [None] * 3, []

    def work(n):
        here.guided = guided[n]
        try:
            for _ in range(12):
                found[n] = sampling.sample_euler(model, guided[n].noise * 40.0, schedule(), disable=True)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    sys.setswitchinterval(before)
    assert not errors and all(torch.isfinite(image).all() for image in found)


def test_a_partial_is_the_function_that_it_is_of_and_a_name_is_none():
    assert stepping(functools.partial(sampling.sample_heun, s_churn=0.0)).method == "heun"
    adaptive = functools.partial(functools.partial(sampling.sample_dpm_adaptive, rtol=0.05), atol=0.01)
    assert Forecasting(Guided(), schedule(), sampler=adaptive)._forecaster.settings.use_cache is False
    with pytest.raises(ValueError, match="sampler='sample_euler': give the function itself"):
        Forecasting(Guided(), schedule(), sampler="sample_euler")


@pytest.mark.parametrize("of", [torch.Tensor.tolist, torch.Tensor.numpy], ids=["list", "array"])
def test_sigmas_may_be_a_list_or_an_array(of):
    guided = Guided()
    model = Forecasting(guided, of(schedule()), sampler=sampling.sample_heun)
    assert torch.equal(sample("heun", model, guided), forecast("heun", guided)[0])
    with pytest.raises(ValueError, match=r"sigmas: \(1, 21\) is no schedule"):
        Forecasting(guided, schedule()[None])


def sample_lms(model, x, sigmas, extra_args=None, callback=None, disable=None, order=4):
    """As ComfyUI's: its last step takes the output for the image."""
    x = sampling.sample_lms(model, x, sigmas[:-1], disable=True, order=order)
    return model(x, sigmas[-2] * x.new_ones(len(x)))


def test_linear_multistep_that_ends_at_its_output_is_led_to_the_same_picture():
    """On a schedule that ends coarsely, where the last step is a large one."""
    assert stepping(sample_lms).step == LinearMultistep(ends=True) and stepping(sampling.sample_lms).step == LinearMultistep()
    guided, sigmas = Guided(), torch.cat([schedule()[:12], torch.zeros(1)])
    images = []
    for function in (sampling.sample_dpmpp_2m, sample_lms, sampling.sample_lms):
        model = Forecasting(guided, sigmas, sampler=function, calls=6)
        images.append(function(model, guided.noise * sigmas[0], sigmas, disable=True))
        assert model.report.calls == 6
    for image in images[1:]:
        torch.testing.assert_close(image, images[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["euler", "heun", "lms", "euler_ancestral"])
@pytest.mark.parametrize("at", [2, 4])
def test_a_call_that_is_tried_again_goes_on_with_its_loop(name, at):
    class Failing(Guided):
        left = None

        def __call__(self, x, sigma):
            if self.calls + 1 == self.left:
                self.left = None
                raise RuntimeError("out of memory")
            return super().__call__(x, sigma)

    def twice(x, sigma):
        try:
            return model(x, sigma)
        except RuntimeError:
            return model(x, sigma)

    guided = Failing()
    model = Forecasting(guided, schedule(), sampler=getattr(sampling, f"sample_{name}"), calls=8)
    plain, calls = sample(name, model, guided), guided.calls
    guided.left = guided.calls + at
    assert torch.equal(sample(name, twice, guided), plain) and guided.calls == 2 * calls


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_order_of_a_partial_of_linear_multistep_is_known(order):
    guided = Guided()
    function = functools.partial(sampling.sample_lms, order=order)
    model = Forecasting(guided, schedule(), sampler=function, scale=SCALE)
    image = function(model, guided.noise * 40.0, schedule(), disable=True)
    whole = forecast("dpmpp_2m", guided, scale=SCALE)[0]
    assert float((image - whole).norm() / whole.norm()) < 0.002


def test_a_part_of_the_schedule_has_as_many_calls_as_were_asked_for():
    guided = Guided()
    model = Forecasting(guided, schedule(), sampler=sampling.sample_euler, calls=6)
    part = sample("euler", model, guided, schedule()[10:])
    assert model.report.calls == 6
    own = Forecasting(guided, schedule()[10:], sampler=sampling.sample_euler, calls=6)
    torch.testing.assert_close(part, sample("euler", own, guided, schedule()[10:]), rtol=1e-4, atol=1e-4)
