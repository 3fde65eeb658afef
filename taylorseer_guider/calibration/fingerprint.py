"""What tells one checkpoint from another: one output on fixed noise, at a fixed sigma, with fixed conditions."""

import inspect
from collections import OrderedDict

import torch

from .host import Probe

NUMBERS = 16
SAME = 0.02  # relative: half precision and other machines differ by less, and a change of weights that small does not matter
CONDITIONS = ("cond", "uc")  # of ``denoise``, which differ from picture to picture


def fingerprint(run, sigmas):
    """``NUMBERS`` elements of the guided output of the sampler of ``run``, which has asked for its first one. One call.

    It is asked at the middle of ``sigmas``, which are those of the run that was learnt from. Conditions keep their shapes and
    dtypes, and are noise, too: zeros would not show a change of all that multiplies them.
    FloatingPointError where the output is not finite.
    """
    opening = run.opening
    arguments = OrderedDict(opening.arguments)
    arguments |= {name: _noise(arguments[name]) for name in CONDITIONS if name in arguments}
    sigma = sigmas[len(sigmas) // 2]
    x = _noise(arguments["x"]) * (1 + sigma**2) ** 0.5
    probe = Probe.begun(run, x.to(arguments["x"].dtype), inspect.BoundArguments(opening.signature, arguments))
    output = probe.guided(probe.denoise(probe.x, sigma, 1))[0].flatten().double().cpu()
    chosen = torch.linspace(0, len(output) - 1, NUMBERS, device="cpu").round().long()
    return [float(f"{number:.6g}") for number in output[chosen].tolist()]


def same(found, expected):
    """Whether two fingerprints are of one checkpoint."""
    found, expected = (torch.tensor(numbers, dtype=torch.float64, device="cpu") for numbers in (found, expected))
    return found.shape == expected.shape and bool((found - expected).norm() <= SAME * expected.norm())


def _noise(value):
    """``value`` with every tensor of floats replaced by fixed noise, the same for all samples, and integers by zeros."""
    if torch.is_tensor(value):
        if not value.is_floating_point():
            return torch.zeros_like(value)
        each = torch.randn(value.shape[1:], generator=torch.Generator().manual_seed(0), device="cpu")
        return each.to(value.device, value.dtype).expand(value.shape).clone()
    if isinstance(value, dict):
        return {key: _noise(item) for key, item in value.items()}
    return type(value)(_noise(item) for item in value) if type(value) in (list, tuple) else value
