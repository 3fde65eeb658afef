"""Inf-DiT's own network (arXiv 2405.04312) in a size that a CPU carries, with random weights: what caching costs, in calls,
seconds and memory. There are no decibels: nothing was learnt.

The code is the host's, of a checkout, with its ConcatSRHeunEDMSampler; layers, width, block and picture are smaller than in its
launch script, the CLIP condition is left out. Its other packages are stand-ins (``standins.py``) but for SwissArmyTransformer,
whose transformer it is.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import torch

from standins import NEVER_CALLED, stand_ins
from taylorseer_guider.engines import infdit
from taylorseer_guider.engines.checkouts import imported
from taylorseer_guider.engines.config import build_sampler, load_config
from taylorseer_guider.tiny.photographs import photograph

from .costs import FEATURES, OUTPUTS, forms
from .devices import clock_of, ready
from .memory import MIB, high_water, in_fresh_process
from .peers import features
from .peers.fitted import evenly
from .peers.hooks import best_hooks

CONFIG = Path(__file__).parents[2] / "configs" / "infdit_sr.yaml"
OF_SAT = ("model.official", "model.position_embedding.triton_rotary_embeddings", "data_utils", "training")  # nothing of it is run
PACKAGES = (*NEVER_CALLED, *(f"sat.{part}" for part in OF_SAT))
SIZE = {"layers": 8, "width": 256, "heads": 4, "block": 32, "pixels": 32}  # pixels of the picture that is enlarged 4 times
BUDGETS = (5, 8, 10, 13)


def build(root, layers, width, heads, block, device="cpu"):
    """(engine, config) of the checkout ``root``, with random weights, none of them at the zeros that the host begins with."""
    config = load_config(CONFIG)
    params = config.engine.params
    params.flags.update({"num-layers": layers, "hidden-size": width, "num-attention-heads": heads})
    params.flags.update({"image-size": 4 * block, "image-block-size": block, "image-condition": False, "vector-dim": 0})
    given = infdit.OmegaConf.to_container(params, resolve=True, throw_on_missing=False) | {
        "infdit_root": str(root),
        "device": device,
    }
    with stand_ins(PACKAGES), contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        given["network"] = str(Path(folder) / "random.pt")
        _random_weights(given)
        engine = infdit.InfDitEngine(**given)
        config.sampler_config.params.num_steps = 20
        build_sampler(config)  # which imports the host's samplers
    return engine, config


def _random_weights(given):
    """A checkpoint for ``given`` at its ``network``."""
    with infdit.attention("cpu"):
        host = imported(given["infdit_root"], "dit.model", "--infdit-root", "THUDM/Inf-DiT")
    arguments = infdit.host_arguments(host.DiffusionEngine, given["flags"], torch.float32)
    net = infdit.built(host.DiffusionEngine, arguments, dict(given["modules"]), dict(given["modeling"]))
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        torch.nn.init.normal_(parameter, std=0.5 * fan_in**-0.5, generator=generator)
    torch.save({"module": net.state_dict()}, given["network"])


class CrossAttention(torch.nn.Module):
    """The host's cross attention to the low-resolution picture as a module, which it is not there, so that hooks can take it."""

    def __init__(self, attend):
        super().__init__()
        self.attend = attend

    def forward(self, *args, **kwargs):
        return self.attend(*args, **kwargs)


def blocks(net):
    """Every layer's attention and MLP, and the first layer's cross attention."""
    layer = net.mixins["adaln_layer"]
    if "cross_attention_forward" not in vars(layer):
        vars(layer)["cross_attention_forward"] = CrossAttention(layer.cross_attention_forward)
    cross = vars(layer)["cross_attention_forward"]
    return [cross, *(module for one in net.transformer.layers for module in (one.attention, one.mlp))]


def sampler(config, form, budget):
    """The host's sampler with our guider for forecasts of outputs, else with its own."""
    config = config.copy()
    if form != OUTPUTS:
        config.sampler_config.params.guider_config = {"target": "dit.sampling.guiders.IdentityGuider"}
        return build_sampler(config)
    del config.sampler_config.params.guider_config.params["interval"]
    return build_sampler(config, calls=budget)


def small_picture(pixels):
    """(1, 3, pixels, pixels) in [-1, 1]."""
    crop = photograph("chelsea")[100 : 100 + pixels, 150 : 150 + pixels].copy()
    return torch.from_numpy(crop).permute(2, 0, 1)[None] / 127.5 - 1


def cache(engine, made, budget, order, reading):
    """(the hooks of a run with features forecast, its passes)."""
    sigmas = made.discretization(made.num_steps, device="cpu")
    hooked = best_hooks()(blocks(engine.net), order)
    steps = features.steps(made.num_steps, "Heun", reading)
    return hooked, features.Passes(hooked, sigmas, evenly(budget, steps), reading)


@torch.no_grad()
def sample(engine, made, small, features_of=None):
    """One run: (picture, figures of it). ``features_of`` is (budget, order, reading) where features are forecast."""
    hooked, passes = cache(engine, made, *features_of) if features_of else (contextlib.nullcontext(), None)
    run, calls, clock = engine.arguments(small, seed=0), 0, clock_of(engine.device)

    def network(x, sigma, *rest):
        nonlocal calls
        calls += 1
        return engine.denoiser(x, sigma, *rest)

    def forecasting(x, sigma, *rest):
        return passes(sigma[0], lambda: network(x, sigma, *rest))

    clock.start()
    with hooked:
        x = made(forecasting if passes else network, **run)
    seconds, report = clock.stop(), getattr(made.guider, "report", None)
    held = passes.peak_bytes if passes else report.peak_bytes if report else 0
    figures = {"calls": passes.full if passes else calls, "passes": calls, "seconds": seconds, "held_MiB": held / MIB}
    return engine.picture(x, small), figures


def measure_one(root, form, budget=None, order=None, reading="once", device="cpu", **size):
    """A row: one run in this process, after a call that is not measured. Use a fresh process: see ``measure_infdit``."""
    size = {**SIZE, **size}
    pixels = size.pop("pixels")
    ready(device)
    engine, config = build(root, **size, device=device)
    small, made = small_picture(pixels), sampler(config, form, budget)
    engine.warm_up(small)
    with high_water(engine.device) as memory, contextlib.redirect_stderr(io.StringIO()):
        _, figures = sample(engine, made, small, (budget, order, reading) if form == FEATURES else None)
    return {"form": form, "budget": budget, "order": order, **figures, **memory}


def measure_infdit(root, budgets=BUDGETS, **size):
    """Yield a row for each of ``forms`` on the network of the checkout ``root``, each in its own process.

    ``size`` stands over ``SIZE``.
    """
    for form in forms(budgets):
        yield in_fresh_process("bench.infdit:measure_one", root=str(root), **form, **size)
