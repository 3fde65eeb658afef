"""Building the embedded network and loading its weights."""

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..standalone.denoiser import Denoiser
from .network import TinyDiT

WEIGHTS = Path(__file__).with_name("weights.safetensors")
SIGMA_DATA = 0.5


def build_network():
    """A TinyDiT with fresh weights."""
    return TinyDiT()


def load_network(weights=WEIGHTS, device="cpu", dtype=torch.float32):
    """The trained network, in evaluation mode. Raises FileNotFoundError or RuntimeError (keys that do not fit)."""
    network = build_network()
    network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def edm_denoiser():
    """The preconditioning that the network was trained with."""
    scaling = {"target": "taylorseer_guider.standalone.denoiser.EDMScaling", "params": {"sigma_data": SIGMA_DATA}}
    return Denoiser(scaling)


def load_denoiser(weights=WEIGHTS, device="cpu", dtype=torch.float32):
    """``denoiser(x, sigma, cond) -> denoised``, what a standalone sampler takes."""
    return partial(edm_denoiser(), load_network(weights, device, dtype))
