"""The embedded model: what it diffuses, its network, its weights, and the photographs it may not have seen."""

import pytest
import torch

from problems import IDENTITY, sampler
from taylorseer_guider import tiny
from taylorseer_guider.tiny.network import TinyDiT
from taylorseer_guider.tiny.photographs import HELD_OUT, TRAINING, photograph


@pytest.fixture(scope="module")
def denoiser():
    return tiny.load_denoiser()


def held_out_crop(top=100, left=150, height=48, width=64):
    image = tiny.from_uint8(photograph("chelsea")[None, top : top + height, left : left + width].copy())
    return image, tiny.enlarge(tiny.shrink(image))


def test_images_and_residuals_are_inverse_to_each_other():
    image, enlarged = held_out_crop()
    torch.testing.assert_close(tiny.with_residual(tiny.residual(image, enlarged), enlarged), image)
    assert torch.equal(tiny.from_uint8(tiny.to_uint8(image)), image)


def test_held_out_photographs_are_not_trained_on():
    assert {"chelsea", "coffee"} <= set(HELD_OUT)
    assert not set(HELD_OUT) & set(TRAINING)
    assert all(photograph(name).shape[2] == 3 for name in HELD_OUT + TRAINING)
    with pytest.raises(ValueError, match="no photograph 'lenna'; there are chelsea"):
        photograph("lenna")


@pytest.mark.parametrize(("height", "width"), [(4, 4), (36, 52), (64, 100)])
def test_any_height_and_width_that_a_4x_enlargement_can_have(denoiser, height, width):
    x = torch.randn(1, 3, height, width)
    denoised = denoiser(x, torch.ones(1), {"concat": torch.zeros_like(x)})
    assert denoised.shape == x.shape and denoised.isfinite().all()


def test_one_pixel_reaches_its_neighbouring_blocks_and_not_the_far_side():
    torch.manual_seed(0)
    network = TinyDiT()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x = torch.zeros(1, 3, 512, 32)
    touched = x.clone()
    touched[:, :, 8] += 1
    cond, noise = {"concat": torch.zeros_like(x)}, torch.zeros(1)
    with torch.no_grad():
        change = (network(x, noise, cond) - network(touched, noise, cond)).abs().amax(dim=(0, 1, 3))
    assert change[40] > 0  # the next block of 32 pixels
    assert change[400:].max() == 0


def test_samples_of_a_batch_do_not_touch_each_other(denoiser):
    x, cond = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    both = denoiser(x, torch.tensor([0.5, 3.0]), {"concat": cond})
    alone = denoiser(x[1:], torch.tensor([3.0]), {"concat": cond[1:]})
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)


def test_the_weights_are_small_and_the_model_restores_what_bicubic_lost(denoiser):
    assert tiny.WEIGHTS.stat().st_size <= 8e6
    image, enlarged = held_out_crop(height=64)
    noise = torch.randn(enlarged.shape, generator=torch.Generator().manual_seed(0))
    built = sampler("DPMPP2MSampler", IDENTITY, num_steps=10)
    restored = tiny.with_residual(built(denoiser, noise, {"concat": enlarged}), enlarged)

    def detail(picture):
        """Mean squared difference between neighbouring pixels."""
        return ((picture[..., 1:] - picture[..., :-1]) ** 2).mean() + ((picture[..., 1:, :] - picture[..., :-1, :]) ** 2).mean()

    def psnr(picture):
        return -10 * torch.log10((((picture - image) / 2) ** 2).mean())

    assert detail(enlarged) < 0.45 * detail(image)
    assert 0.6 * detail(image) < detail(restored) < 1.5 * detail(image)
    assert psnr(restored) > psnr(enlarged) - 3.5


def test_conditioning_can_be_dropped(denoiser):
    image, enlarged = held_out_crop()
    x = tiny.residual(image, enlarged) + 0.3 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    sigma = torch.full((1,), 0.3)
    informed = denoiser(x, sigma, {"concat": enlarged})
    blind = denoiser(x, sigma, {"concat": torch.zeros_like(enlarged)})
    assert 0.01 < (informed - blind).norm() / informed.norm() < 1
