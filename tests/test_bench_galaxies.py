"""Score networks of galaxies: read without their framework, and in the convention of our samplers."""

from importlib import metadata

import numpy as np
import pytest
import torch

from bench.workloads import galaxies


@pytest.fixture
def installed():
    try:
        metadata.version(galaxies.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(galaxies.REMEDY)


def leaves(network):
    """What equinox would save of ``network``."""
    state = network.state_dict()
    state["conv_out.weight"] = state["conv_out.weight"].transpose(0, 1).flip(2, 3)
    return [state[name].numpy() for name in [*(name for name in state if name != "t1"), "t1"]]


def save(path, arrays):
    with path.open("wb") as file:
        for array in arrays:
            np.save(file, array)
    return path


def test_a_file_of_arrays_one_after_the_other_is_read_whole(tmp_path):
    written = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(10), np.zeros((4, 1, 1), np.float32)]
    found = galaxies.read_eqx(save(tmp_path / "three.eqx", written))
    assert [array.shape for array in found] == [(2, 3), (), (4, 1, 1)]
    assert all(np.array_equal(*pair) for pair in zip(found, written, strict=True))


def test_a_network_that_was_saved_and_filled_again_gives_the_same(tmp_path):
    network, x, t = galaxies.ScoreNet(16), torch.randn(2, 1, 16, 16), torch.tensor([0.1, 9.0])
    again = galaxies.fill(galaxies.ScoreNet(16), galaxies.read_eqx(save(tmp_path / "net.eqx", leaves(network))))
    assert torch.equal(again(x, t), network(x, t)) and not again(x, t).requires_grad


@pytest.mark.parametrize("size", [32, 60])
def test_a_score_is_shaped_as_its_picture_and_follows_the_time(size):
    score = galaxies.ScoreNet(size)
    x = torch.randn(2, 1, size, size)
    assert score(x, torch.ones(2)).shape == x.shape
    assert not torch.equal(score(x, torch.ones(2)), score(x, torch.full((2,), 5.0)))


def test_arrays_of_another_network_are_refused():
    with pytest.raises(ValueError, match="54 arrays are no ScoreNet's, which has 55"):
        galaxies.fill(galaxies.ScoreNet(16), leaves(galaxies.ScoreNet(16))[1:])
    with pytest.raises(ValueError, match=r"conv_in.weight is \(3, 2, 4, 4\) where it must be \(64, 2, 4, 4\); pip"):
        galaxies.fill(galaxies.ScoreNet(16), [np.zeros((3, 2, 4, 4)), *leaves(galaxies.ScoreNet(16))[1:]])


@pytest.mark.parametrize("sigma", [0.1, 1.0, 148.0])
def test_the_denoised_output_is_the_mean_of_gaussian_data(sigma):
    """Data of N(mean, spread^2): y is N(mean sqrt(a), a spread^2 + 1 - a) with a = exp(-t), and D is known."""
    mean, spread, x = 3.0, 2.0, torch.randn(2, 1, 8, 8, dtype=torch.float64) * 10

    def score(y, t):
        a = torch.exp(-t)[:, None, None, None]
        return (mean * a.sqrt() - y) / (a * spread**2 + 1 - a)

    known = (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)
    torch.testing.assert_close(galaxies.denoised(score, x, torch.full((2,), sigma, dtype=torch.float64)), known)


@pytest.mark.slow
@pytest.mark.parametrize("name", galaxies.FILES)
def test_every_network_takes_noise_away(installed, name):
    """Three times the noise of the smallest sigma, added to what the network takes for a picture, is mostly gone."""
    workload = galaxies.training(1, 2, name)
    x = workload.noise * workload.edm["sigma_max"]
    for sigma in workload.sigmas(8)[:-1]:  # DDIM
        clean = workload.denoise(x, sigma)
        x = clean + (x - clean) * 0.2
    noisy = clean + torch.randn_like(clean)
    assert (workload.denoise(noisy, torch.tensor(1.0)) - clean).std() < 0.3 and workload.calls == 9


def test_noise_is_the_same_whatever_the_count_and_other_noise_trains(installed):
    first, more, training = galaxies.held_out(1, 2), galaxies.held_out(1, 3), galaxies.training(1, 3)
    assert torch.equal(first.noise, more.noise[:2]) and not torch.isclose(more.noise, training.noise).all(dim=(1, 2, 3)).any()


def test_what_is_not_there_is_one_line_with_the_remedy(installed, monkeypatch):
    with pytest.raises(ValueError, match="galaxies 'andromeda' are not known; there are hsc64, lsst60, quasar72"):
        galaxies.held_out(1, 2, "andromeda")
    with pytest.raises(ValueError, match="no scale 3; 1 is allowed"):
        galaxies.held_out(3)
    monkeypatch.setitem(galaxies.FILES, "hsc64", "gone.eqx")
    with pytest.raises(FileNotFoundError, match="has no gone.eqx; pip install --no-deps galaxygrad==0.1.9"):
        galaxies.find("hsc64")
    monkeypatch.setattr(galaxies, "PACKAGE", "galaxygrad-that-is-not-there")
    with pytest.raises(ModuleNotFoundError, match="is not installed; pip install"):
        galaxies.find("hsc64")
