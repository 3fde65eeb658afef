"""Models that a config names and a command runs: the embedded one, Inf-DiT's, Stability sgm's, a mixture.

An engine is built from ``engine.params`` of a config, a device and a dtype, and has

    denoiser            what the sampler calls
    inputs(pictures, shrink_first)    yields (name, small picture or None, original or None) for each picture to make, from
                        (name, uint8 (H, W, 3)) each
    arguments(small, seed)    keyword arguments of ``sampler(denoiser, ...)``
    picture(x, small)   what a sampled x stands for: (1, 3, H, W) in [-1, 1], float32 on the CPU
    shown(small)        {caption: picture} to look at beside the results
    enlarged(small)     where ``factor`` is above 1: ``small``, plainly enlarged, to look at beside the result
    warm_up(small)      one call that nobody times
    takes_pictures      whether it makes something of pictures
    factor              how much larger a picture becomes
    peak                range of what is sampled, where pictures span 2
    on_cuda             name of the dtype on a GPU where none is asked for

and, where it can,

    weights             the file that it takes by itself, where a config names none
    bytes_per_pixel     of memory that a run takes, for each pixel that is made and each branch, in float32
    pieces(small, seed, tile)    yields (window, part of ``small``, arguments) for each tile of a large picture: tiles.py

    config = load_config("configs/tiny_calibrated.yaml")
    engine, sampler = build_engine(config), build_sampler(config)
    for name, small, _ in engine.inputs([("cat", pixels)]):
        image = engine.picture(sampler(engine.denoiser, **engine.arguments(small, seed=0)), small)

The core does not import this room: it needs the packages of the extra ``demo``.
"""

from .config import build_engine, build_sampler, load_config
from .errors import UserError
from .infdit import InfDitEngine
from .mixture import MixtureEngine
from .sgm import SgmEngine
from .tiny import TinyEngine

__all__ = [
    "InfDitEngine",
    "MixtureEngine",
    "SgmEngine",
    "TinyEngine",
    "UserError",
    "build_engine",
    "build_sampler",
    "load_config",
]
