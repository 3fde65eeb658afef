"""FLIP and SSIMULACRA2, from their packages."""

import logging
from importlib import metadata

import pytest
import torch

from taylorseer_guider.commands import perceptual


@pytest.fixture(params=["flip-evaluator", "ssimulacra2"])
def measure(request):
    if remedy := perceptual.available().get(request.param):
        pytest.skip(remedy)
    return {"flip-evaluator": perceptual.flip, "ssimulacra2": perceptual.ssimulacra2}[request.param]


def pictures(channels=3, size=32):
    """Two smooth ones in [-1, 1]."""
    coarse = torch.rand(2, channels, 4, 4) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28])
def test_identical_pictures_are_0_and_100(measure, channels, size):
    same = pictures(channels, size)
    assert measure(same, same) == [0 if measure is perceptual.flip else 100] * 2


@pytest.mark.slow
def test_more_noise_is_worse(measure):
    clean, noise = pictures(), torch.randn(2, 3, 32, 32)
    figures = [measure(clean + amount * noise, clean) for amount in (0.0, 0.02, 0.1, 0.5)]
    for picture in zip(*figures, strict=True):
        assert list(picture) == sorted(picture, reverse=measure is perceptual.ssimulacra2) and len(set(picture)) == 4


@pytest.mark.slow
def test_pairs_are_measured_one_by_one_and_grey_is_grey_in_three_channels(measure):
    clean, noise = pictures(1), torch.tensor([0.02, 0.3])[:, None, None, None] * torch.randn(2, 1, 32, 32)
    both = measure(clean + noise, clean)
    assert both[0] != both[1] and measure(clean[1:] + noise[1:], clean[1:]) == both[1:]
    assert measure((clean + noise).expand(-1, 3, -1, -1), clean.expand(-1, 3, -1, -1)) == both


@pytest.mark.slow
def test_a_small_picture_is_judged_as_the_same_one_enlarged():
    """With fewer than six scales, the package would weigh features with the weights of others."""
    if remedy := perceptual.available().get("ssimulacra2"):
        pytest.skip(remedy)
    small, noise = pictures(size=64)[:1], 0.1 * torch.randn(1, 3, 64, 64)
    enlarge = lambda x: x.repeat_interleave(4, -1).repeat_interleave(4, -2)  # noqa: E731
    assert perceptual.ssimulacra2(small + noise, small) == perceptual.ssimulacra2(enlarge(small + noise), enlarge(small))


def test_a_missing_package_is_said_once_and_gives_nones(monkeypatch, caplog):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    perceptual._say.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert perceptual.flip(pictures(), pictures()) == perceptual.flip(pictures(), pictures()) == [None, None]
    assert [record.message for record in caplog.records] == [
        "flip-evaluator is not installed, so its figures are left out; pip install --no-deps flip-evaluator==1.7"
    ]
    assert set(perceptual.available()) == {"flip-evaluator", "ssimulacra2"}


def test_batches_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"pictures are \(2, 3, 32, 32\), references \(2, 1, 32, 32\); they must be alike"):
        perceptual.flip(pictures(), pictures(1))
    if perceptual.available():
        pytest.skip("packages are missing")
    with pytest.raises(ValueError, match="2 channels; they must have 1 or 3"):
        perceptual.flip(pictures(2), pictures(2))
