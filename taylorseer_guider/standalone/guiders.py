"""Guiders: what goes into the denoiser, and how its branches become one output."""

import torch


class VanillaCFG:
    """Classifier-free guidance (arXiv 2207.12598): ``x_u + scale * (x_c - x_u)`` from one doubled batch, uncond first."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, denoised, sigma):
        uncond, cond = denoised.chunk(2)
        return uncond + self.scale * (cond - uncond)

    def prepare_inputs(self, x, sigma, cond, uc):
        both = {key: torch.cat([uc[key], cond[key]]) for key in cond}
        return torch.cat([x, x]), torch.cat([sigma, sigma]), both


class IdentityGuider:
    """The conditional branch as it is."""

    def __call__(self, denoised, sigma):
        return denoised

    def prepare_inputs(self, x, sigma, cond, uc):
        return x, sigma, dict(cond)
