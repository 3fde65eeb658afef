"""scripts/sample.py from end to end, on small pictures: what it writes, what it says, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from taylorseer_guider.commands import pictures, sample
from taylorseer_guider.commands.job import Job
from taylorseer_guider.commands.results import read_folder
from taylorseer_guider.engines.pictures import read_picture
from taylorseer_guider.tiny.photographs import photograph

SCRIPTS = Path(__file__).parents[1] / "scripts"
OWN, CALIBRATED = (str(SCRIPTS.parent / "configs" / name) for name in ("tiny_calibration.yaml", "tiny_calibrated.yaml"))
GUIDER = "sampler_config.params.guider_config.params"


@pytest.fixture
def cat(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(photograph("chelsea")[100:133, 150:192]).save(path)  # 33 x 42: no multiple of 4
    return path


def run(*arguments):
    return sample.main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_a_process_makes_both_runs_compares_them_and_skips_what_is_there(cat, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, SCRIPTS / "sample.py", "--input-path", cat, "--shrink-first", "--compare"]
    command += ["--num-steps", "6", "--out-dir", out]
    every_step = {**os.environ, "TQDM_MININTERVAL": "0"}  # however fast the machine is
    shown = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=every_step)
    stem = "cat_x4_heun6-taylorseer-half-s1_seed0"
    assert {path.name for path in out.iterdir()} == {
        f"{stem}.png", f"{stem}_full.png", f"{stem}_low.png", f"{stem}_bicubic.png", f"{stem}_original.png",
        f"{stem}_sheet.png", f"{stem}.json", "heun6-taylorseer-half-s1.yaml",
    }  # fmt: skip
    assert Image.open(out / f"{stem}.png").size == Image.open(out / f"{stem}_full.png").size == (40, 32)
    assert Image.open(out / f"{stem}_sheet.png").size[0] > 3 * 40
    figures = read_folder(out)[f"{stem}.png"]
    assert (figures["calls"], figures["full_calls"]) == (3, 11)
    assert figures["calls"] == figures["report"]["calls"] and figures["forecasts"] == 8
    assert 15 < figures["to_full_run"]["psnr"] < 90
    assert set(figures["to_original"]) == {"run", "full_run", "bicubic"}
    assert len(figures["visit_errors"]) == 11 and figures["visit_errors"][0] == 0 < max(figures["visit_errors"]) < 0.1
    assert "3 (full run 11)" in shown.stdout and shown.stdout.strip().endswith(f"{stem}_sheet.png")
    assert "calls=" in shown.stderr and "forecasts=" in shown.stderr
    before = (out / f"{stem}.png").stat().st_mtime_ns
    again = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "skipped" in again.stdout and (out / f"{stem}.png").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_merged_config_runs_again_to_the_same_picture(cat, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    key = "sampler_config.params.guider_config.params.coordinate=log_sigma"
    assert run("--input-path", cat, "--num-steps", 4, "--scale", 2, "--out-dir", first, key) == 0
    config = next(first.glob("*.yaml"))
    assert OmegaConf.load(config).sampler_config.params.guider_config.params.coordinate == "log_sigma"
    assert run("--input-path", cat, "--config", config, "--out-dir", second) == 0
    one, two = (np.asarray(Image.open(next(p for p in folder.glob("cat_*seed0.png")))) for folder in (first, second))
    assert one.shape == (132, 168, 3) and np.array_equal(one, two)


@pytest.mark.slow
def test_interval_1_with_computed_repeats_is_the_identity_guiders_picture(cat, tmp_path):
    exact = "sampler_config.params.guider_config.params.repeat_visits=compute"
    small = ["--input-path", cat, "--num-steps", 3, "--out-dir", tmp_path / "out"]
    assert run(*small, "--guider", "identity") == 0
    assert run(*small, "--scale", 0, "--interval", 1, exact) == 0
    assert run(*small, "--guider", "vanilla", "--scale", 3) == 0
    found = (tmp_path / "out").glob("cat_*seed0.png")
    made = {path.name.split("-")[1].removesuffix("_seed0.png"): np.asarray(Image.open(path)) for path in found}
    assert np.array_equal(made["identity"], made["taylorseer"])
    assert not np.array_equal(made["identity"], made["vanilla"])


def test_a_folder_and_several_seeds(cat, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.open(cat).crop((0, 0, 5, 3)).save(folder / "a.png")
    Image.open(cat).crop((0, 0, 4, 4)).save(folder / "a.jpg")
    (folder / "notes.txt").write_text("not a picture")
    out = tmp_path / "out"
    assert run("--input-path", folder, "--seeds", 0, 1, "--num-steps", 2, "--out-dir", out) == 0
    sizes = {path.name.split("_")[0]: Image.open(path).size for path in out.glob("*seed1.png")}
    assert sizes == {"a-png": (20, 12), "a-jpg": (16, 16)}
    report = read_folder(out)
    assert len(report) == 4 and all("to_full_run" not in figures for figures in report.values())


def test_a_broken_picture_of_a_folder_is_skipped_and_named(cat, tmp_path, caplog):
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.open(cat).crop((0, 0, 4, 4)).save(folder / "whole.png")
    (folder / "broken.png").write_bytes(b"no picture")
    assert run("--input-path", folder, "--num-steps", 2, "--out-dir", tmp_path / "out") == 1
    assert [path.name.split("_")[0] for path in (tmp_path / "out").glob("*seed0.png")] == ["whole"]
    assert "skipped: " in caplog.text and "broken.png: not a picture" in caplog.text
    (folder / "whole.png").unlink()
    assert run("--input-path", folder, "--num-steps", 2, "--out-dir", tmp_path / "out") == 2


@pytest.mark.slow
def test_the_calibrated_config_of_the_demo_makes_as_many_calls_as_it_says(cat, tmp_path):
    config = SCRIPTS.parent / "configs" / "tiny_calibrated.yaml"
    small = ["--input-path", cat, "--shrink-first", "--compare", "--out-dir", tmp_path, "--seeds", 3]
    assert run(*small, "--config", config) == 0
    ((name, figures),) = read_folder(tmp_path).items()
    assert "calibrated8" in name and figures["calls"] == 8 and figures["full_calls"] == 39
    assert figures["to_full_run"]["psnr"] > 40
    merged = next(tmp_path.glob("*.yaml"))
    assert run(*small, "--config", merged) == 0


def test_seeds_may_stand_before_overrides(cat, tmp_path):
    override = "sampler_config.params.num_steps=2"
    assert run("--input-path", cat, "--out-dir", tmp_path, "--seeds", 0, 1, override) == 0
    assert len(list(tmp_path.glob("cat_x4_heun2-*seed?.png"))) == 2


def test_a_config_that_is_not_yaml_is_one_line(tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("engine: {target: [")
    assert run("--config", broken, "--out-dir", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "not YAML that can be read" in said and said.count("\n") == 1


@pytest.mark.slow
def test_two_runs_that_are_the_same_are_called_identical(cat, tmp_path, capsys):
    exact = "sampler_config.params.guider_config.params.repeat_visits=compute"
    assert (
        run("--input-path", cat, "--compare", "--num-steps", 2, "--scale", 0, "--interval", 1, "--out-dir", tmp_path, exact) == 0
    )
    (figures,) = read_folder(tmp_path).values()
    assert figures["to_full_run"] == {"psnr": None, "ssim": 1.0}
    assert "identical" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [("L", 100, 100), ("RGBA", (100, 100, 100, 255), 100), ("RGBA", (0, 0, 0, 0), 255), ("I;16", 25700, 100), ("P", 0, 0)],
)
def test_pictures_of_every_mode_are_read(mode, pixel, expected, tmp_path):
    Image.new(mode, (3, 2), pixel).save(tmp_path / "picture.png")
    assert np.array_equal(read_picture(tmp_path / "picture.png"), np.full((2, 3, 3), expected))


def test_a_tiff_of_floats_is_not_read_as_black(tmp_path):
    Image.new("F", (3, 2), 100 / 255).save(tmp_path / "picture.tiff")
    assert np.array_equal(read_picture(tmp_path / "picture.tiff"), np.full((2, 3, 3), 100))


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"earlier")

    def failing(image, file, **options):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(OSError, match="disk full"):
        pictures.write_picture(path, np.zeros((2, 2, 3), np.uint8))
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


MISTAKES = [
    (["--input-path", "/nowhere.png"], "no such file or folder"),
    (["--input-path", __file__], "not a picture"),
    (["--input-path", "{tmp}"], "no picture in this folder"),
    (["--photograph", "lenna"], "choose from"),
    (["--scale", "nan"], "scale=nan: give a finite number"),
    (["--guider", "vanilla", "--scale", "nan"], "scale=nan: give a finite number"),
    (["--guider", "identity", "--scale", "2"], "the guider identity has none"),
    (["--seeds", "one"], "give whole numbers"),
    (["engine.params.dtype=float16"], "--device and --dtype set both"),
    (["sampler_config.params.discretization_config.params.sigma_max=abc"], "cannot be built"),
    (["sampler_config.target=nowhere.Sampler"], "cannot be built"),
    (["--scale", "high"], "invalid float value: 'high'"),
    (["--guider", "fast"], "choose from"),
    (["--interval", "0"], "interval=0: give a whole number from 1 up"),
    (["--num-steps", "0"], "--num-steps 0"),
    (["--guider", "vanilla", "--interval", "2"], "only the guider taylorseer takes it"),
    (["--config", "/nowhere.yaml"], "configs/ has ready ones"),
    (["--device", "cuda"], "--device cpu"),
    (["--out-dir", "/proc/nowhere"], "choose another"),
    (["engine.params.weights=/nowhere.safetensors"], "no such file"),
    (["engine.params.weights=" + __file__], "not weights of this model"),
    (["sampler_confg.params.num_steps=3"], "engine, sampler_config"),
    (["nonsense"], "give key.path=value"),
    (["sampler_config.params.guider_config.params.coordinate=rhoo"], "choose one of auto, sigma, rho, log_sigma, asinh"),
    (["sampler_config.params.guider_config.params.intervall=3"], "unknown option intervall"),
    (["--scale", "2"], "--scale 2: calibrations ship for scale 1.0, 1.5, 2.5; give one of these"),
    (["--calls", "9"], "calls=9: this calibration holds budgets of 5, 6, 7, 8, 10 and 13 calls; the nearest are 8 and 10"),
    (["--calibration", "/nowhere.yaml"], "cannot be read"),
    (["--calibration", OWN, "--scale", "2"], "scale is 2.0 here, it was fitted for 1.0"),
    (["--calibration", OWN, "--interval", "2"], "--interval 2: the calibration decides that; leave it out"),
    (["--config", CALIBRATED, "--max-order", "1"], "--max-order 1: the calibration decides that"),
    (["--config", CALIBRATED, f"{GUIDER}.plan={{{{warmup: 2}}}}"], "plan={warmup: 2}: the calibration decides that"),
    (["--config", CALIBRATED, f"{GUIDER}.coordinate=rho"], "coordinate=rho: the calibration decides that"),
    (["--calibration", OWN, "--guider", "vanilla"], "only the guider taylorseer takes it"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: str(value)[-40:])
def test_a_mistake_is_one_line_with_its_remedy_and_exit_code_2(arguments, message, tmp_path, capsys):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    where = [] if "--out-dir" in arguments else ["--out-dir", str(tmp_path / "out")]
    try:
        code = sample.main([argument.format(tmp=tmp_path) for argument in [*where, *arguments]])
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr().err
    assert code == 2
    assert message in said and said.count("\n") == 1 and said.startswith("taylorseer-sample: ")
    assert not list((tmp_path / "out").glob("*.png"))


# Which calibration.


def params_of(*words):
    return Job.of(sample.parse(list(words))).config.sampler_config.params.guider_config.params


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ([], "tiny_calibration.yaml"),
        (["--input-path", "my.png"], "tiny_calibration.yaml"),
        (["--scale", "2.5", "--calls", "5"], "tiny_calibration_2.5.yaml"),
        (["--scale", "1.5"], "tiny_calibration_1.5.yaml"),
        (["--num-steps", "12"], "tiny_calibration.yaml"),
    ],
)
def test_every_picture_is_enlarged_with_the_calibration_that_ships_for_the_scale(words, file):
    params = params_of(*words)
    assert Path(params.calibration) == SCRIPTS.parent / "configs" / file
    assert params.calls == (5 if "--calls" in words else 8)
    assert Job.of(sample.parse(words)).sampler().guider.calibration == params.calibration


@pytest.mark.parametrize(
    "words",
    [["--interval", "2"], ["--max-order", "1"], ["--num-steps", "7"], ["--guider", "taylorseer", "--scale", "2"]],
    ids=str,
)
def test_what_a_calibration_is_not_for_is_forecast_without_one(words):
    assert "calibration" not in params_of(*words)


def test_where_none_ships_for_the_steps_the_command_says_so(cat, tmp_path, capsys):
    assert run("--input-path", cat, "--num-steps", 2, "--out-dir", tmp_path / "out") == 0
    assert "--num-steps 2: no calibration ships for that" in capsys.readouterr().out


def test_a_file_of_ones_own_brings_its_scale_unless_another_is_named(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_bytes((SCRIPTS.parent / "configs" / "tiny_calibration_2.5.yaml").read_bytes())
    params = params_of("--calibration", str(own))
    assert (params.calibration, params.scale) == (str(own.resolve()), 2.5)
    assert params_of("--calibration", str(own), "--scale", "1.5").scale == 1.5
