"""What sample.py and calibrate.py need of a model.

An engine is built from ``engine.params`` of a config, a device and a dtype, and has

    denoiser            what the sampler calls
    inputs(args)        yields (name, small picture or None, original or None) for each picture to make
    arguments(small, seed)    keyword arguments of ``sampler(denoiser, ...)``
    picture(x, small)   what a sampled x stands for: (1, 3, H, W) in [-1, 1], float32 on the CPU
    shown(small)        {caption: picture} to look at beside the results
    warm_up(small)      one call that nobody times
    factor              how much larger a picture becomes
    peak                range of what is sampled, where pictures span 2
    on_cuda             name of the dtype on a GPU where none is asked for
"""

from engines.infdit import InfDitEngine
from engines.sgm import SgmEngine
from engines.tiny import TinyEngine

__all__ = ["InfDitEngine", "SgmEngine", "TinyEngine"]
