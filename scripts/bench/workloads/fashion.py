"""sgm's own class-conditional engine, trained on Fashion-MNIST: its UNet and its embedding of classes, at any guidance scale.

The network is the host's code: of the checkout that SGM_ROOT names, or of the package imaginairy, a fork that carries the same
one. The weights are those of scripts/train_sgm_toy.py.
"""

import importlib
import os
import sys
from functools import cache, partial
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from standins import stand_ins
from taylorseer_guider.engines.errors import UserError
from taylorseer_guider.standalone.denoiser import Denoiser

from .base import Workload

FOLDER = Path(__file__).resolve().parents[1] / "fashion"
CLASSES = 10
EDM = {"sigma_min": 0.002, "sigma_max": 80.0}  # sgm's own defaults
REMEDY = "set SGM_ROOT to a checkout of Stability-AI/generative-models, or pip install --no-deps imaginairy==15.0.0 psutil"


def held_out(scale, count=32):
    """Every class in turn, from noise that nothing was fitted on."""
    return _workload(scale, count, seed=0)


def training(scale, count=24, seed=1000):
    """Every class in turn, other noise."""
    return _workload(scale, count, seed)


def _workload(scale, count, seed):
    network, embedding = load()
    rng = torch.Generator().manual_seed(seed)
    noise = torch.stack([torch.randn(1, 28, 28, generator=rng) for _ in range(count)])
    cond = {"vector": embedding[labels(count)]}
    uc = {"vector": torch.zeros_like(cond["vector"])}  # a dropped label is an embedding of zeros
    return Workload("fashion", scale, network, noise, cond, uc, EDM, decode=lambda x, cond: x.clamp(-1, 1))


def labels(count):
    """(count,) classes in turn."""
    return torch.arange(count) % CLASSES


@cache
def load():
    """(denoiser, embedding (10, 128)): the averaged weights in sgm's UNet, under EDM's preconditioning as in sgm's Denoiser."""
    params = OmegaConf.load(FOLDER / "model.yaml").model.params
    weights = {name: value.float() for name, value in load_file(FOLDER / "network.safetensors").items()}
    embedding = weights.pop("conditioner.embedders.0.embedding.weight")
    network = unet()(**params.network_config.params)
    network.load_state_dict({name.removeprefix("model.diffusion_model."): value for name, value in weights.items()})
    network.eval().requires_grad_(False)
    scaling = {"target": "taylorseer_guider.standalone.denoiser.EDMScaling"}
    scaled = Denoiser({**scaling, "params": dict(params.denoiser_config.params.scaling_config.params)})
    called = lambda x, c_noise, cond: network(x, timesteps=c_noise, y=cond["vector"])  # noqa: E731
    return partial(scaled, called), embedding


def unet():
    """The class UNetModel of sgm, or of the fork that has it."""
    with stand_ins():
        if root := os.environ.get("SGM_ROOT"):
            sys.path.insert(0, str(Path(root).resolve()))
            return importlib.import_module("sgm.modules.diffusionmodules.openaimodel").UNetModel
        try:
            module = importlib.import_module("imaginairy.modules.sgm.diffusionmodules.openaimodel")
            attention = importlib.import_module("imaginairy.modules.sgm.attention")
        except ImportError as error:
            raise UserError(f"the workload fashion needs sgm's UNet ({error}); {REMEDY}") from None
    module.SpatialTransformer = attention.SpatialTransformer  # the fork passes what only this one takes
    return module.UNetModel
