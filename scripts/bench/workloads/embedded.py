"""The embedded model, which is ours: held-out crops of `chelsea` and `coffee` to enlarge."""

import numpy as np
import torch

from taylorseer_guider import tiny
from taylorseer_guider.commands.origin import digest_of_file
from taylorseer_guider.tiny.model import edm_denoiser
from taylorseer_guider.tiny.photographs import HELD_OUT, TRAINING, photograph

from .base import Workload


def held_out(scale, count=32, size=48, dtype=torch.float32):
    """``count`` held-out ``crops`` to enlarge."""
    return enlarging(crops(count, size), scale, 0, dtype)


def crops(count, size=48):
    """(size, size, 3) uint8 each, drawn once and for all: the first ones are the same whatever the count, and no two are one."""
    rng, images, taken = np.random.default_rng(20), [], set()
    while len(images) < count:
        place = _draw(rng, HELD_OUT[len(images) % len(HELD_OUT)], size)
        if place not in taken:
            taken.add(place)
            images.append(_crop(place, size))
    return images


def training(scale, count=8, size=48, seed=1000):
    """Crops of the photographs that the model was trained on: what fitted methods may look at."""
    rng = np.random.default_rng(seed)
    images = [_crop(_draw(rng, TRAINING[n % len(TRAINING)], size), size) for n in range(count)]
    return enlarging(images, scale, seed)


def _draw(rng, name, size):
    """(name, top, left) of a crop."""
    return name, *(int(rng.integers(length - size + 1)) for length in photograph(name).shape[:2])


def _crop(place, size):
    name, top, left = place
    return photograph(name)[top : top + size, left : left + size]


def enlarging(images, scale, seed, dtype=torch.float32):
    """The workload that enlarges ``images`` (H, W, 3) uint8, shrunk to a quarter, from the noise of ``seed``."""
    enlarged = tiny.enlarge(tiny.shrink(tiny.from_uint8(np.stack(images))))
    draw = lambda n: torch.randn(enlarged.shape[1:], generator=torch.Generator().manual_seed(1000 * seed + n))  # noqa: E731
    noise = torch.stack([draw(n) for n in range(len(images))])
    cond, uc = {"concat": enlarged}, {"concat": torch.zeros_like(enlarged)}
    denoiser = tiny.load_denoiser() if dtype == torch.float32 else low_precision(dtype)
    decode = lambda x, cond: tiny.with_residual(x, cond["concat"])  # noqa: E731
    return Workload("embedded", scale, denoiser, noise, cond, uc, decode=decode, weights=digest_of_file(tiny.WEIGHTS))


def low_precision(dtype):
    """The embedded denoiser with a network of ``dtype``; preconditioning and sampler stay float32, as hosts under autocast."""
    network, scaled = tiny.load_network(dtype=dtype), edm_denoiser()

    def narrow(x, c_noise, cond):
        return network(x.to(dtype), c_noise.to(dtype), {key: value.to(dtype) for key, value in cond.items()}).float()

    return lambda x, sigma, cond: scaled(narrow, x, sigma, cond)
