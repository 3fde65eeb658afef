"""The node for ComfyUI in ComfyUI's own sampling, on a CPU: a small SD 1.5 with random weights, and a mixture in closed form."""

import importlib
import importlib.util
import logging
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

import taylorseer_guider
from families import COMFYUI
from problems import GaussianMixture
from standins import NEVER_CALLED, stand_ins

pytestmark = pytest.mark.host(COMFYUI)
NODE = Path(taylorseer_guider.__file__).parent / "adapters" / "comfyui"
NET = {
    "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": 1, "channel_mult": (1, 2),
    "num_heads": 2, "use_spatial_transformer": True, "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4,
    "transformer_depth_middle": 1, "context_dim": 5, "use_linear_in_transformer": False, "dtype": torch.float32,
}  # fmt: skip


@pytest.fixture(scope="module")
def comfy(host):
    """ComfyUI's modules, and, as ``node``, the folder as ComfyUI loads a custom node."""
    host.cli_args.args.cpu = True
    names = ("model_base", "model_management", "model_patcher", "sample", "samplers", "supported_models")
    with stand_ins((*NEVER_CALLED, "tokenizers")):
        modules = {name: importlib.import_module(f"comfy.{name}") for name in names}
    return types.SimpleNamespace(node=custom_node(NODE), **modules)


def custom_node(folder):
    """The folder as ComfyUI loads it: a module by the name of its place."""
    spec = importlib.util.spec_from_file_location(str(folder), folder / "__init__.py", submodule_search_locations=[str(folder)])
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Studio:
    """A model of ComfyUI's, what it is sampled with, and how often it is run. ``flow``: x is that of a flow."""

    def __init__(self, comfy, flow=False):
        self.comfy, self.flow = comfy, flow
        config, kind = comfy.supported_models.SD15(NET), comfy.model_base.ModelType
        torch.manual_seed(0)
        made = comfy.model_base.BaseModel(config, kind.FLOW if flow else kind.EPS, device=torch.device("cpu"))
        for parameter in made.diffusion_model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        made.diffusion_model.register_forward_hook(self._count)
        self.model = comfy.model_patcher.ModelPatcher(made, torch.device("cpu"), torch.device("cpu"))
        self.problem, self.calls = GaussianMixture(shape=(4, 8, 8)), 0

    def _count(self, *_):
        self.calls += 1

    def closed_form(self):
        """The mixture in the network's place."""

        def denoised(apply_model, given):
            self._count()
            x, sigma = given["input"].double(), given["timestep"].double()
            if self.flow:  # x = (1 - sigma) image + sigma noise
                sigma = sigma.clamp(max=1 - 1e-6) / (1 - sigma.clamp(max=1 - 1e-6))
                x = x * (1 + sigma).view(-1, 1, 1, 1)
            return self.problem(x, sigma, {"vector": given["c"]["c_crossattn"][:, 0].double()}).float()

        self.model = self.model.clone()
        self.model.set_model_unet_function_wrapper(denoised)
        return self

    def node(self, calls=0, options=""):
        (model,) = self.comfy.node.NODE_CLASS_MAPPINGS["TaylorSeer"]().patch(self.model, calls, options)
        return model

    def sample(self, model, name="euler", steps=20, seed=3, shape=(1, 4, 8, 8), cfg=5.0, scheduler=None, **options):
        """(what KSampler makes, how often the model was run); ``seed`` stands for a prompt, too."""
        self.calls, rng = 0, torch.Generator().manual_seed(seed)
        positive, negative = ([[3 * torch.randn(1, 1, 5, generator=rng), {}]] for _ in range(2))
        latent = torch.zeros(shape)
        noise, scheduler = self.comfy.sample.prepare_noise(latent, seed), scheduler or ("simple" if self.flow else "karras")
        arguments = model, noise, steps, cfg, name, scheduler, positive, negative, latent
        with torch.inference_mode():
            return self.comfy.sample.sample(*arguments, seed=seed, disable_pbar=True, **options), self.calls


@pytest.fixture(scope="module")
def studio(comfy):
    return Studio(comfy)


def far(found, other):
    """The relative error, in the mean over the pictures."""
    return float(((found - other).flatten(1).norm(dim=1) / other.flatten(1).norm(dim=1)).mean())


@pytest.mark.slow
def test_every_sampler_is_bit_equal_when_off_and_half_of_the_runs_are_saved(comfy, studio):
    off, on = studio.node(options="use_cache: false"), studio.node()
    for name in comfy.samplers.SAMPLER_NAMES:
        full, runs = studio.sample(studio.model, name, steps=6)
        found, calls = studio.sample(off, name, steps=6)
        assert torch.equal(found, full) and calls == runs, name
        found, calls = studio.sample(on, name, steps=6)
        assert found.isfinite().all(), name
        if "cfg_pp" in name or name == "dpm_adaptive":
            assert torch.equal(found, full) and calls == runs, name
        else:
            assert calls <= (0.7 if name == "heunpp2" else 0.5) * runs + 1, name


def test_calls_say_at_how_many_steps_the_model_is_run(studio):
    assert studio.sample(studio.node(calls=6))[1] == 6
    assert studio.sample(studio.node(options="interval: 3\nmax_order: 0"))[1] == 7


@pytest.mark.parametrize("flow", [False, True])
def test_on_a_mixture_half_of_the_runs_are_nearer_than_half_of_the_steps(comfy, flow):
    studio, many = Studio(comfy, flow).closed_form(), {"shape": (16, 4, 8, 8), "cfg": 3.0}
    exact, _ = studio.sample(studio.model, "heun", steps=200, **many)
    for name in ("euler", "dpmpp_2m", "uni_pc"):
        full, _ = studio.sample(studio.model, name, **many)
        found, calls = studio.sample(studio.node(), name, **many)
        fewer, runs = studio.sample(studio.model, name, steps=10, **many)
        row = [far(found, full), far(full, exact), far(found, exact), far(fewer, exact)]
        print(f"flow {flow} {name:10}", *(f"{number:.3f}" for number in row))
        assert calls == runs == 10 and row[2] < 0.9 * row[3], name


@pytest.mark.parametrize("flow", [False, True])
def test_on_samplers_that_add_noise_the_pictures_stay(comfy, flow):
    studio, many = Studio(comfy, flow).closed_form(), {"shape": (16, 4, 8, 8), "cfg": 3.0}
    for name in ("euler_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m_sde"):
        full, runs = studio.sample(studio.model, name, **many)
        found, calls = studio.sample(studio.node(), name, **many)
        print(f"flow {flow} {name:18} {runs} {calls} {far(found, full):.3f}")
        assert calls <= runs / 2 + 1 and far(found, full) < 0.2, name


def test_a_flows_velocity_can_be_forecast_too(comfy):
    studio, many = Studio(comfy, flow=True).closed_form(), {"shape": (16, 4, 8, 8), "cfg": 3.0}
    full, _ = studio.sample(studio.model, "euler", **many)
    found, _ = studio.sample(studio.node(options="forecast: {quantity: eps}"), "euler", **many)
    assert far(found, full) < 0.02


def test_prompts_sizes_and_batches_one_after_the_other_are_each_as_alone(studio):
    model = studio.node(calls=7)
    for picture in ({"seed": 1}, {"seed": 2}, {"shape": (1, 4, 16, 8)}, {"shape": (3, 4, 8, 8)}, {"steps": 9}, {"denoise": 0.5}):
        found, calls = studio.sample(model, "dpmpp_2m", **picture)
        alone, _ = studio.sample(studio.node(calls=7), "dpmpp_2m", **picture)
        assert calls == 7 and torch.equal(found, alone)


def test_a_run_that_was_interrupted_leaves_nothing_behind(comfy, studio):
    model = studio.node()
    expected, _ = studio.sample(model)

    def interrupts(step, *_):
        if step == 5:
            raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        studio.sample(model, callback=interrupts)
    assert torch.equal(studio.sample(model)[0], expected)


def test_parts_of_a_mask_and_of_a_schedule_are_sampled(studio):
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    assert studio.sample(studio.node(), noise_mask=mask)[1] == 10
    assert studio.sample(studio.node(), start_step=4, last_step=14)[1] == 5


def test_sigmas_that_rise_are_computed_and_the_log_says_what_was_skipped(studio, caplog):
    caplog.set_level(logging.INFO)
    studio.sample(studio.node())
    assert "the model was run 10 times, and 10 outputs were forecast" in caplog.text
    assert studio.sample(studio.node(), sigmas=torch.linspace(0.1, 5, 8))[1] == 7
    assert "sigmas do not fall" in caplog.text
    studio.sample(studio.node(), "euler_cfg_pp")
    assert "as CFG++ does" in caplog.text


def test_a_second_node_takes_the_place_of_the_first(studio):
    (model,) = studio.comfy.node.NODE_CLASS_MAPPINGS["TaylorSeer"]().patch(studio.node(calls=9), 5)
    assert studio.sample(model)[1] == 5
    assert studio.sample(studio.model)[1] == 20


@pytest.mark.parametrize(
    ("calls", "options", "said"),
    [
        (0, "intervall: 3", "unknown option intervall"),
        (0, "interval: 0", "interval=0"),
        (0, "interval: [", "give one option a line"),
        (0, "- interval", "give one option a line"),
        (0, "3", "give one option a line"),
        (3, "plan: {nodes: [0]}", "leave one"),
        (4, "calls: 3", "calls=4: the options say calls: 3; leave one"),
    ],
)
def test_a_mistake_is_said_by_the_node(studio, calls, options, said):
    with pytest.raises(ValueError, match=said):
        studio.node(calls, options)


def test_where_there_are_fewer_steps_than_calls_the_model_is_run_at_each_of_them(studio):
    """As in the second pass of a workflow."""
    assert studio.sample(studio.node(calls=30))[1] == 20
    assert studio.sample(studio.node(calls=10), start_step=12)[1] == 8


def test_the_folder_alone_is_a_custom_node(comfy, tmp_path):
    node = custom_node(shutil.copytree(NODE, tmp_path / "taylorseer"))
    inputs = node.NODE_CLASS_MAPPINGS["TaylorSeer"].INPUT_TYPES()
    assert inputs["required"].keys() == {"model", "calls"} and node.NODE_DISPLAY_NAME_MAPPINGS.keys() == {"TaylorSeer"}
