"""Noise schedules."""

import torch


class EDMDiscretization:
    """``n`` sigmas from ``sigma_max`` down to ``sigma_min``, evenly spaced in sigma^(1/rho), then 0 (arXiv 2206.00364, eq. 5)."""

    def __init__(self, sigma_min=0.002, sigma_max=80.0, rho=7.0):
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho

    def __call__(self, n, device="cpu"):
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigmas = torch.linspace(first, last, n, dtype=torch.float64) ** self.rho
        return torch.cat([sigmas, sigmas.new_zeros(1)]).float().to(device)
