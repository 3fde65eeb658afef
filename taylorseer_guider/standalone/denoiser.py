"""EDM preconditioning (Karras et al., arXiv 2206.00364, table 1 and eq. 7), behind sgm's ``Denoiser`` contract."""

from torch import nn

from .config import append_dims, instantiate_from_config


class EDMScaling:
    """``sigma -> c_skip, c_out, c_in, c_noise``, each of sigma's shape."""

    def __init__(self, sigma_data=0.5):
        self.sigma_data = sigma_data

    def __call__(self, sigma):
        variance = sigma**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data / variance**0.5
        c_in = 1 / variance**0.5
        return c_skip, c_out, c_in, sigma.log() / 4


class Denoiser(nn.Module):
    """``denoiser(network, x, sigma, cond)`` -> denoised of x's shape; ``sigma`` is (B,) in units of the diffused data."""

    def __init__(self, scaling_config):
        super().__init__()
        self.scaling = instantiate_from_config(scaling_config)

    def forward(self, network, x, sigma, cond, **additional_model_inputs):
        c_skip, c_out, c_in, c_noise = self.scaling(append_dims(sigma, x.ndim))
        output = network(x * c_in, c_noise.reshape(sigma.shape), cond, **additional_model_inputs)
        return output * c_out + x * c_skip
