"""sgm's class-conditional engine on clothes: the host's network with our weights, how it was trained, and who judges it."""

import gzip

import numpy as np
import pytest
import torch

import train_sgm_toy
from bench import quality
from bench.fashion import classifier, data
from bench.workloads import fashion
from taylorseer_guider.engines.errors import UserError

WEIGHTS = fashion.FOLDER / "network.safetensors"


@pytest.fixture(scope="module")
def workload():
    try:
        return fashion.held_out(3.0, 3)
    except UserError as error:
        pytest.skip(str(error))


def test_the_network_is_the_hosts(workload):
    network = workload.denoiser.args[0]  # of the partial around EDM's preconditioning
    assert workload.noise.shape == (3, 1, 28, 28)
    assert type(network.__closure__[0].cell_contents).__module__.endswith("diffusionmodules.openaimodel")


def test_it_denoises(workload):
    """What it makes of a picture at a small sigma is nearer to it than what it was given; at a large one, it is no noise."""
    x = workload.pictures(workload.denoise(80 * workload.noise, torch.tensor(80.0))).detach()
    assert x.abs().max() <= 1 and x.var() < 0.8
    noisy = x + 0.3 * workload.noise
    assert (workload.denoise(noisy, torch.tensor(0.3)) - x).norm() < 0.7 * (noisy - x).norm()


def test_a_dropped_label_is_an_embedding_of_zeros(workload):
    assert workload.cond["vector"].shape == (3, 128) and workload.cond["vector"].abs().min(1).values.max() > 0
    assert not workload.uc["vector"].any()


def test_training_sees_other_noise_than_the_comparison(workload):
    assert not torch.isclose(fashion.training(3.0, 3).noise, workload.noise).any(dim=-1).all()


def test_weights_are_small_enough_to_ship():
    assert sum(path.stat().st_size for path in fashion.FOLDER.glob("*.safetensors")) < 6 * 2**20


def test_the_frechet_distance_is_that_of_gaussians():
    """Of diagonal ones it is a sum over axes: (m1 - m2)^2 + (s1 - s2)^2."""
    spread, other = torch.tensor([1.0, 4.0]).double(), torch.tensor([9.0, 1.0]).double()
    first, second = (torch.zeros(2).double(), spread.diag()), (torch.tensor([3.0, 0.0]).double(), other.diag())
    assert classifier.frechet(first, second) == pytest.approx(9 + (1 - 3) ** 2 + (2 - 1) ** 2)
    assert classifier.frechet(first, first) == pytest.approx(0, abs=1e-9)


def test_the_classifier_tells_trousers_from_boots():
    """Two pictures that nobody would mix up: two bars side by side, and a slab over all of the lower half."""
    judge = classifier.load()
    pictures = torch.full((2, 1, 28, 28), -1.0)
    pictures[0, :, 1:27, 8:12] = pictures[0, :, 1:27, 16:20] = pictures[0, :, 1:6, 8:20] = 0.6
    pictures[1, :, 9:20, 3:25] = 0.7
    found, features = classifier.judge(judge, pictures)
    assert data.CLASSES[found[0]] == "trousers" and data.CLASSES[found[1]] == "bag" and features.shape == (2, 64)


def test_quality_is_of_ours_and_of_the_two_nearest_others():
    def row(label, family, dB):
        return {"label": label, "family": family, "budget": 8, "exact_dB": [dB]}

    rows = [row("TaylorSeerGuider", "ours", 40.0), row("UniPC2", "fewer steps", 50.0), row("Euler", "fewer steps", 30.0)]
    known = [quality.FULL_RUN.__class__(found["label"], found["family"], 8, None) for found in rows]
    assert [method.label for method in quality.picked(known, rows, 8)] == ["TaylorSeerGuider", "UniPC2", "Euler"]


def test_photographs_are_read_as_they_were_written(tmp_path):
    shown, classes = np.arange(2 * 784, dtype=np.uint8), np.array([3, 9], np.uint8)
    for name, header, values in (("images-idx3", 16, shown), ("labels-idx1", 8, classes)):
        with gzip.open(tmp_path / f"train-{name}-ubyte.gz", "wb") as file:
            file.write(bytes(header) + values.tobytes())
    pictures, found = data.read(tmp_path, "train")
    assert pictures.shape == (2, 1, 28, 28) and pictures.flatten()[:3].tolist() == pytest.approx(
        [-1, 1 / 127.5 - 1, 2 / 127.5 - 1]
    )
    assert found.tolist() == [3, 9]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data-dir", "none"], "apt-get install dataset-fashion-mnist"),
        (["--sgm-root", "none"], "no sgm.models.diffusion there"),
    ],
)
def test_what_is_missing_is_said_in_one_line(given, said, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SGM_ROOT", raising=False)
    part = ["classifier"] if given[0] == "--data-dir" else []
    assert train_sgm_toy.main([*part, *given, "--run-dir", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
