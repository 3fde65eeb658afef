"""Deterministic samplers with sgm's contracts: ``sampler(denoiser, x, cond, uc=None, num_steps=None) -> x``.

``denoiser(x, sigma, cond)`` takes x (B, ...), sigma (B,) and a dictionary of conditionings, and returns the denoised x.
"""

import math

import torch

from .config import append_dims, instantiate_from_config

DEFAULT_GUIDER = {"target": "taylorseer_guider.standalone.guiders.IdentityGuider"}


def to_d(x, sigma, denoised):
    """dx/dsigma of the probability flow (arXiv 2206.00364, eq. 3)."""
    return (x - denoised) / append_dims(sigma, x.ndim)


class BaseDiffusionSampler:
    """Builds discretization and guider from configs; walks the schedule, one ``sampler_step`` an interval."""

    def __init__(self, discretization_config, num_steps=None, guider_config=None, verbose=False, device="cpu"):
        self.discretization = instantiate_from_config(discretization_config)
        self.guider = instantiate_from_config(DEFAULT_GUIDER if guider_config is None else guider_config)
        self.num_steps, self.verbose, self.device = num_steps, verbose, device

    def prepare_sampling_loop(self, x, cond, uc=None, num_steps=None):
        """``x`` is unit noise; it comes back scaled to the first sigma, with the schedule."""
        sigmas = self.discretization(num_steps or self.num_steps, device=self.device)
        x = x * (1 + sigmas[0] ** 2).sqrt()
        return x, x.new_ones(x.shape[0]), sigmas, len(sigmas), cond, cond if uc is None else uc

    def denoise(self, x, denoiser, sigma, cond, uc):
        denoised = denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc))
        return self.guider(denoised, sigma)

    def get_sigma_gen(self, num_sigmas):
        steps = range(num_sigmas - 1)
        if not self.verbose:
            return steps
        from tqdm import tqdm  # which the core does not need

        return tqdm(steps, desc=type(self).__name__)

    def __call__(self, denoiser, x, cond, uc=None, num_steps=None):
        x, s_in, sigmas, num_sigmas, cond, uc = self.prepare_sampling_loop(x, cond, uc, num_steps)
        state = None
        for i in self.get_sigma_gen(num_sigmas):
            x, state = self.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, state)
        return x

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        """One interval. Returns the next x and whatever the following step needs of this one."""
        raise NotImplementedError


class EulerEDMSampler(BaseDiffusionSampler):
    """Euler's method (arXiv 2206.00364, algorithm 1 without its correction)."""

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        d = to_d(x, sigma, self.denoise(x, denoiser, sigma, cond, uc))
        return x + d * append_dims(next_sigma - sigma, x.ndim), None


class HeunEDMSampler(BaseDiffusionSampler):
    """Heun's method (arXiv 2206.00364, algorithm 1): two visits an interval, one in the last, where sigma becomes 0."""

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        d = to_d(x, sigma, self.denoise(x, denoiser, sigma, cond, uc))
        dt = append_dims(next_sigma - sigma, x.ndim)
        euler = x + d * dt
        if not next_sigma.any():
            return euler, None
        d_next = to_d(euler, next_sigma, self.denoise(euler, denoiser, next_sigma, cond, uc))
        return x + (d + d_next) / 2 * dt, None


class DPMPP2MSampler(BaseDiffusionSampler):
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2), in t = -log sigma; first order at both ends."""

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        denoised = self.denoise(x, denoiser, sigma, cond, uc)
        if not next_sigma.any():
            return denoised, None
        t, t_next = -sigma.log(), -next_sigma.log()
        h = t_next - t
        direction = denoised
        if state is not None:
            older, h_last = state
            slope = append_dims(h / (2 * h_last), x.ndim)
            direction = denoised + slope * (denoised - older)
        decay = append_dims(torch.exp(-h), x.ndim)
        return decay * x + (1 - decay) * direction, (denoised, h)


class LinearMultistepSampler(BaseDiffusionSampler):
    """Adams and Bashforth's method in sigma, of an ``order`` from 1 to 4 on uneven steps; of less at the beginning."""

    def __init__(self, *args, order=4, **kwargs):
        super().__init__(*args, **kwargs)
        if order not in (1, 2, 3, 4):
            raise ValueError(f"order={order!r}: give a whole number from 1 to 4")
        self.order = order

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        sigmas, slopes = state or ((), ())
        d = to_d(x, sigma, self.denoise(x, denoiser, sigma, cond, uc))
        sigmas, slopes = (sigma, *sigmas)[: self.order], (d, *slopes)[: self.order]
        coefficients = adams_bashforth(sigmas, next_sigma)
        return x + sum(append_dims(c, x.ndim) * d for c, d in zip(coefficients, slopes, strict=True)), (sigmas, slopes)


def adams_bashforth(sigmas, end):
    """Integrals of the Lagrange polynomials of up to four ``sigmas`` (B,) from the first of them to ``end``: (B,) each.

    Gauss's rule of two points is exact on them.
    """
    start, found = sigmas[0].double(), []
    points = [(start + end) / 2 + (end - start) / 2 * place for place in (-(3**-0.5), 3**-0.5)]
    for own in sigmas:
        others = [other.double() for other in sigmas if other is not own]
        values = [math.prod((point - other) / (own.double() - other) for other in others) for point in points]
        found.append((sum(values) * (end - start) / 2).to(end.dtype))
    return found
