"""Score networks that others trained on pictures of galaxies, out of the package galaxygrad 0.1.9 (M. Sampson et al.).

The package needs jax, equinox and diffrax; its weights are NumPy arrays one after the other, so they are read without them, and
nothing of the package is imported. Later versions carry no weights. x is log(flux + 1) / 0.1. Left out: five more networks (of
smaller pictures; ZTF's, mostly points of light; two that the package's own code does not name), and its transform to flux.
"""

from functools import cache, partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .base import Workload

PACKAGE, VERSION = "galaxygrad", "0.1.9"
REMEDY = f"pip install --no-deps {PACKAGE}=={VERSION}"
FILES = {"hsc64": "eqx_hsc_ScoreNet64.eqx", "lsst60": "eqx_lsst_ScoreNet60.eqx", "quasar72": "eqx_quasar_lens72.eqx"}
RANGES = {"hsc64": (0.0, 9.0), "lsst60": (6.0, 11.0), "quasar72": (0.0, 11.0)}  # background, and the median picture's maximum
PATCH = 4
EDM = {"sigma_min": 0.1, "sigma_max": 148.0}  # t from 0.01, the package's own default where it asks for scores, to its 10


class ScoreNet(nn.Module):
    """MLP-mixer over patches of 4x4: (y (N, 1, H, W), t (N,)) -> score (N, 1, H, W); ``models_eqx.py`` of the package."""

    def __init__(self, size, hidden=64, mixed=512, blocks=4):
        super().__init__()
        shape = (hidden, (size // PATCH) ** 2)
        self.conv_in = nn.Conv2d(2, hidden, PATCH, stride=PATCH)
        self.conv_out = nn.ConvTranspose2d(hidden, 1, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(MixerBlock(*shape, mixed) for _ in range(blocks))
        self.norm = nn.LayerNorm(shape)
        self.register_buffer("t1", torch.tensor(10.0))

    def forward(self, y, t):
        times = (t / self.t1)[:, None, None, None].expand_as(y)
        y = self.conv_in(torch.cat([y, times], dim=1))
        patches = y.shape[2:]
        y = y.flatten(2)
        for block in self.blocks:
            y = block(y)
        return self.conv_out(self.norm(y).unflatten(2, patches))


class MixerBlock(nn.Module):
    """Mixes patches, then channels; layer norm is over both."""

    def __init__(self, hidden, patches, mixed):
        super().__init__()
        self.patch_mixer, self.hidden_mixer = mlp(patches, mixed), mlp(hidden, mixed)
        self.norm1, self.norm2 = nn.LayerNorm((hidden, patches)), nn.LayerNorm((patches, hidden))

    def forward(self, y):
        y = y + self.patch_mixer(self.norm1(y))
        y = y.transpose(1, 2)
        y = y + self.hidden_mixer(self.norm2(y))
        return y.transpose(1, 2)


def mlp(size, width):
    return nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, size))


def read_eqx(path):
    """The arrays of an .eqx file: ``numpy.save`` of one leaf after the other."""
    arrays = []
    with path.open("rb") as file:
        while file.peek(1):
            arrays.append(np.load(file, allow_pickle=False))
    return arrays


def fill(network, arrays):
    """Give ``network`` the leaves of equinox, which come in the order of its modules.

    equinox holds biases of convolutions as (C, 1, 1), and kernels of transposed ones as (out, in, H, W), turned by 180 degrees.
    """
    state = network.state_dict()
    names = [name for name in state if name != "t1"] + ["t1"]
    if len(arrays) != len(names):
        raise ValueError(f"{len(arrays)} arrays are no ScoreNet's, which has {len(names)}; {REMEDY}")
    for name, array in zip(names, arrays, strict=True):
        array = torch.from_numpy(np.array(array))
        if name == "conv_out.weight":
            array = array.flip(2, 3).transpose(0, 1)
        if array.squeeze().shape != state[name].squeeze().shape:
            raise ValueError(f"{name} is {tuple(array.shape)} where it must be {tuple(state[name].shape)}; {REMEDY}")
        state[name] = array.reshape(state[name].shape)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def find(name):
    """Where the installed package has the weights ``name``."""
    if name not in FILES:
        raise ValueError(f"galaxies {name!r} are not known; there are {', '.join(FILES)}")
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise ModuleNotFoundError(f"the galaxies' weights need {PACKAGE} {VERSION}, which is not installed; {REMEDY}") from None
    path = Path(package.locate_file(f"{PACKAGE}/{FILES[name]}"))
    if not path.is_file():
        raise FileNotFoundError(f"{PACKAGE} {package.version} has no {path.name}; {REMEDY}")
    return path


@cache
def load(name):
    """The score network ``name``, of pictures as many pixels wide as its name says."""
    arrays = read_eqx(find(name))
    return fill(ScoreNet(int(name[-2:])), arrays)


def denoised(score, x, sigma, cond=None):
    """D(x, sigma) = x + sigma^2 grad log p(x; sigma) by a score of the variance-preserving y = x / sqrt(1 + sigma^2).

    There alpha_bar = exp(-t) = 1 / (1 + sigma^2), so t = log(1 + sigma^2); the score of x is that of y over sqrt(1 + sigma^2).
    """
    scale = (1 + sigma**2).sqrt()[:, None, None, None]
    return x + (sigma**2)[:, None, None, None] / scale * score(x / scale, torch.log1p(sigma**2))


def held_out(scale=1, count=32, name="hsc64", seed=0):
    """``count`` pictures of the network ``name``: the first ones are the same whatever the count."""
    if scale != 1:
        raise ValueError(f"galaxies are unconditional, so there is no scale {scale:g}; 1 is allowed")
    denoiser = partial(denoised, load(name))
    size, rng = int(name[-2:]), torch.Generator()
    noise = torch.stack([torch.randn(1, size, size, generator=rng.manual_seed(1000 * seed + n)) for n in range(count)])
    show = partial(stretch, *RANGES[name])
    return Workload(f"galaxies_{name}", 1.0, denoiser, noise, {}, {}, EDM, exact_steps=160, decode=lambda x, cond: show(x))


def training(scale=1, count=8, name="hsc64", seed=1000):
    """Other noise."""
    return held_out(scale, count, name, seed)


def stretch(low, high, x):
    """[-1, 1] of x, which is log(flux + 1) / 0.1 already: a log stretch between two fixed brightnesses, not clamped."""
    return 2 * (x - low) / (high - low) - 1
