"""Networks whose output diffusers' pipelines turn round, that are told of sigma otherwise, and that accelerate moves about."""

import functools

import pytest
import torch

from loops import said
from problems import GaussianMixture, decibels

pytest.importorskip("diffusers")

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler

from taylorseer_guider.adapters.diffusers import disable, enable
from taylorseer_guider.adapters.schedulers import GIVEN, stepping
from tiny_diffusers import SD

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PROBLEM = GaussianMixture(components=8)
LEANING = {"vector": PROBLEM.inputs(2)[1]["vector"]}
KINDS = {  # what a network gives of x, its image and the share of noise in x, and the velocity that the pipeline makes of it
    "flow": (lambda x, image, share: (x - image) / share, lambda x, output, share: output),
    "flow, turned": (lambda x, image, share: (image - x) / share, lambda x, output, share: -output),
    "flow, image": (lambda x, image, share: image, lambda x, output, share: (x - output) / share),
}


class Net(torch.nn.Module):
    """A network in closed form, with the arguments of a transformer; ``told`` makes the share of noise of its timestep."""

    def __init__(self, kind="flow", told=lambda share: share):
        super().__init__()
        self.gives, self.told, self.runs = KINDS[kind][0], told, 0

    def forward(self, hidden_states, timestep, encoder_hidden_states=None, return_dict=True):
        self.runs += 1
        share, x = self.told(timestep.flatten()[-1].double()), hidden_states.double()
        kept = (1 - share).clamp(min=1e-9)
        image = PROBLEM(x / kept, (share / kept).expand(len(x)), LEANING)
        return (self.gives(x, image, share),)


def made(kind, config):
    return getattr(diffusers, kind)(**config)


def pipeline(name, net):
    """A pipeline of the class ``name``, as far as its scheduler and its network go."""
    of = name.removeprefix("MyOwnOf")
    made = type(name, (type(of, (), {}),), {"guidance_scale": 1.0})()
    made.scheduler, made.transformer = FlowMatchEulerDiscreteScheduler(shift=3.0), net
    return made


def noise():
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def flowing(pipe, kind, steps, timesteps=lambda share: share.expand(2)):
    """The loop of such a pipeline."""
    scheduler, x = pipe.scheduler, noise()
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        share = t.double() / 1000
        output = pipe.transformer(hidden_states=x, timestep=timesteps(share), return_dict=False)[0]
        x = scheduler.step(KINDS[kind][1](x, output, share), t, x, return_dict=False)[0].double()
    return x


@pytest.mark.parametrize("name", ["AnyPipeline", *GIVEN, "MyOwnOfLumina2Pipeline"])
def test_an_output_that_a_pipeline_turns_into_the_velocity_is_known_by_the_pipeline(name):
    kind = GIVEN.get(name.removeprefix("MyOwnOf"), "flow")
    turned = kind == "flow, turned"  # those are told 1 - share, which names no timestep of the scheduler's
    net = Net(kind, (lambda told: 1 - told) if turned else (lambda told: told))
    pipe, timesteps = pipeline(name, net), (lambda share: (1 - share if turned else share).expand(2))
    full, exact = (flowing(pipe, kind, steps, timesteps) for steps in (20, 200))
    net.runs, streams = 0, enable(pipe, calls=10)
    image = flowing(pipe, kind, 20, timesteps)
    assert net.runs == streams.report.calls == 10
    assert decibels(image, exact) > decibels(full, exact) + 2
    disable(pipe)
    assert torch.equal(flowing(pipe, kind, 20, timesteps), full)


@pytest.mark.parametrize("shift", [1.57, 1.83, 3.0])
def test_a_share_that_rounding_takes_above_1_is_a_share(shift):
    pipe = pipeline("AnyPipeline", Net())
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    flowing(pipe, "flow", 10)
    pipe.transformer.runs, streams = 0, enable(pipe, calls=5)
    flowing(pipe, "flow", 10)
    assert pipe.transformer.runs == streams.report.calls == 5
    assert streams.report.visits[0].sigma == pytest.approx(1e4) and streams.report.visits[-1].sigma < 1


@pytest.mark.parametrize("calls", [5, 10, 18])
def test_sigmas_of_a_flow_that_are_no_shares_are_taken_as_they_are(calls):
    """Cosmos' loop: sigmas from 80, a network that is told sigma / (1 + sigma)."""

    def made(steps):
        scheduler, x = pipe.scheduler, 80 * noise()
        scheduler.set_timesteps(sigmas=torch.linspace(0, 1, steps, dtype=torch.float64))
        scheduler.sigmas[-1] = scheduler.sigmas[-2]
        for i, t in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[i].double()
            share = sigma / (1 + sigma)
            output = pipe.transformer(hidden_states=x * (1 - share), timestep=share.expand(2), return_dict=False)[0]
            x = scheduler.step((x - ((1 - share) * x - share * output)) / sigma, t, x, return_dict=False)[0].double()
        return x

    pipe = pipeline("Cosmos2TextToImagePipeline", Net())
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    pipe.scheduler.register_to_config(sigma_max=80.0, sigma_min=0.002, sigma_data=1.0, final_sigmas_type="sigma_min")
    exact, few = made(200), made(calls)
    pipe.transformer.runs, streams = 0, enable(pipe, calls=calls)
    image = made(36)
    assert pipe.transformer.runs == streams.report.calls == calls
    assert decibels(image, exact) > decibels(few, exact) + 5


def test_a_frame_that_is_given_has_a_timestep_of_its_own():
    """Wan 2.2's image to video tells each token its timestep, and those of the first frame 0."""
    pipe = pipeline("WanImageToVideoPipeline", Net())
    pipe.transformer.runs, streams = 0, enable(pipe, calls=4)
    flowing(pipe, "flow", 20, lambda share: torch.stack([0 * share, share, share]))
    assert pipe.transformer.runs == streams.report.calls == 4 and len(streams.report.visits) == 20


def test_a_network_of_other_arguments_and_a_pipeline_that_is_gone_are_told_of_once(caplog):
    class Other(Net):
        def forward(self, hidden_states, timesteps, return_dict=True):
            return super().forward(hidden_states, timesteps)

    pipe = pipeline("HiDreamImagePipeline", Other())
    enable(pipe, calls=4)
    for _ in range(3):
        pipe.transformer(hidden_states=noise(), timesteps=torch.full((2,), 0.5))
    assert ["takes no `sample`" in record.getMessage() for record in said(caplog)] == [True]
    caplog.clear()
    net = Net()
    enable(pipeline("AnyPipeline", net), calls=4)
    for _ in range(3):
        net(hidden_states=noise(), timestep=torch.full((2,), 0.5))
    assert ["pipeline that was enabled is gone" in record.getMessage() for record in said(caplog)] == [True]


def offloaded(network, moved):
    """What accelerate's hook does to a network, and what takes it off again (``enable_model_cpu_offload``)."""
    network._old_forward = old = network.forward

    @functools.wraps(old)
    def forward(*args, **kwargs):
        moved.append(1)
        return network._old_forward(*args, **kwargs)

    network.forward = forward

    def freed():
        network.forward = network._old_forward
        del network._old_forward

    return freed


@pytest.mark.parametrize("first", ["offload", "enable"])
def test_pictures_of_a_network_that_accelerate_moves_are_forecast_until_disabled(first):
    net, moved = Net(), []
    pipe = pipeline("AnyPipeline", net)
    full = flowing(pipe, "flow", 10)
    if first == "enable":
        enable(pipe, calls=4)
    freed = offloaded(net, moved)
    if first == "offload":
        enable(pipe, calls=4)
    for _ in range(3):
        net.runs = 0
        moved.clear()
        flowing(pipe, "flow", 10)
        assert net.runs == 4 and len(moved) == 10
        freed()
        freed = offloaded(net, moved)
    disable(pipe)
    for _ in range(3):
        net.runs = 0
        moved.clear()
        assert torch.equal(flowing(pipe, "flow", 10), full) and net.runs == len(moved) == 10
        freed()
        freed = offloaded(net, moved)


@pytest.mark.parametrize(
    "config",
    [
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}),
        ("PNDMScheduler", {**SD, "skip_prk_steps": False}),
    ],
    ids=lambda config: config[0],
)
def test_where_it_is_not_known_at_which_sigma_a_visit_is_every_visit_computes(config):
    assert stepping(made(*config)) is None


@pytest.mark.parametrize("config", [{"thresholding": True}, {"clip_sample": True}], ids=str)
def test_a_scheduler_that_changes_the_image_is_not_led(config):
    known = stepping(made("DDIMScheduler", {**SD, "clip_sample": False, **config}))
    assert known.method is None and not known.noisy


@pytest.mark.parametrize("first", ["compile", "enable"])
@pytest.mark.slow
def test_a_compiled_network_stays_whole_and_forecasts_are_left_out_of_it(first):
    torch._dynamo.reset()
    graphs, net = [], Net()

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    pipe = pipeline("AnyPipeline", net)
    enable(pipe, calls=6)
    expected = flowing(pipe, "flow", 12)
    disable(pipe)
    for step in (first, "enable" if first == "compile" else "compile"):
        if step == "compile":
            pipe.transformer = torch.compile(pipe.transformer, backend=counting)
        else:
            streams = enable(pipe, calls=6)
    torch.testing.assert_close(flowing(pipe, "flow", 12), expected)
    forecast = len(graphs)
    assert streams.report.calls == 6
    torch._dynamo.reset()
    graphs.clear()
    flowing(pipeline("AnyPipeline", torch.compile(Net(), backend=counting)), "flow", 12)
    assert 0 < forecast <= len(graphs) + 1
