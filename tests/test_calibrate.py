"""calibrate.py: rows that repeat, what it measures on, and mistakes in one line."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taylorseer_guider.commands import calibrate, calibrating
from taylorseer_guider.engines.errors import UserError

ROOT = Path(__file__).parents[1]


def calibrated(*words):
    quick = ["--calls", 2, 3, "--samples", 1, "--crop", 32, "--check", 2, "--check-crop", 16, "--substeps", 1]
    return calibrate.main([str(word) for word in (*quick, "--num-steps", 4, *words)])


@pytest.mark.slow
def test_measuring_a_calibration_repeats_the_rows_of_the_command_that_made_it(tmp_path, capsys):
    path = tmp_path / "calibration.yaml"
    assert calibrated("--out", path) == 0
    made = capsys.readouterr().out.splitlines()
    before = path.read_bytes()
    assert calibrated("--measure", path, "--out", tmp_path / "other.yaml") == 0
    again = capsys.readouterr().out.splitlines()
    assert made[1:] == again[1:] and [line.split()[0] for line in again[2:]] == ["7", "2", "3"]
    assert "2 crops of pictures that were not fitted" in again[0]
    assert path.read_bytes() == before and not (tmp_path / "other.yaml").exists()
    rows = np.array([[cell.split("/") for cell in line.split()[1:]] for line in again[3:]], float)
    assert rows.shape == (2, 3, 2) and np.isfinite(rows).all() and (rows[..., 0] > rows[..., 1]).all()


def test_a_calibration_is_measured_at_its_own_numbers_of_calls_unless_others_are_named():
    words = ["--measure", str(ROOT / "configs" / "tiny_calibration.yaml")]
    assert calibrating.budgets_of(calibrate.parse(words)) == [5, 6, 7, 8, 10, 13]
    assert calibrating.budgets_of(calibrate.parse([*words, "--calls", "8"])) == [8]
    assert calibrating.budgets_of(calibrate.parse([])) == [5, 6, 8, 10, 13]


def test_of_fewer_than_five_pictures_a_calibration_is_measured_on_the_same_ones(tmp_path):
    for n in range(1, 7):
        Image.new("RGB", (64, 64), (40 * n, 0, 0)).save(tmp_path / f"{n}.png")
        args = argparse.Namespace(input_path=tmp_path)
        fitted, others = calibrating.pictures(args)
        assert (fitted is others) == (n < 5) and len(fitted) + len(others) == (2 * n if n < 5 else n)


MISTAKES = [
    (["--measure", "/nowhere.yaml"], "--measure /nowhere.yaml: no such file"),
    (["--out", "/nowhere/calibration.yaml"], "--out /nowhere/calibration.yaml: no such folder"),
    (["--out", ROOT], "a folder; name a file elsewhere"),
    (["--folder", __file__], "not a folder; name another"),
    (["--from", "/nowhere.yaml"], "--from /nowhere.yaml: no such file"),
    (["--measure", ROOT / "configs" / "tiny_calibration.yaml"], "budgets of"),
    (["--check", 0], "give a whole number from 1"),
    (["--crop", -8], "give a whole number from 1"),
    (["--crop", 3], "no picture is 0 pixels high and wide; give a --crop or --check-crop of 4 or more"),
    (["--scales", 1, 2, "--scale", 9], "scale=9: it is to be measured at one from 1 to 2"),
    (
        ["sampler_config.params.guider_config.params.scale=9", "--scales", 1, 2],
        "scale=9: it is to be measured at one from 1 to 2",
    ),
    (
        ["sampler_config.params.guider_config.params.learn=true", "sampler_config.params.guider_config.params.calls=3"],
        "params.learn: a calibration decides it",
    ),
    (["sampler_config.params.guider_config.params.interval=3"], "params.interval: a calibration decides it; leave it out"),
    (["sampler_config.params.guider_config.params.plan.nodes=[0,3]"], "params.plan: a calibration decides it"),
    (["--seed", -1], "give a whole number from 0"),
    (["--input-path", __file__], "not a picture"),
    (["--num-steps", 10**9], "--num-steps 1000000000"),
]


def test_what_was_fitted_is_kept_where_its_file_cannot_be_written(tmp_path, monkeypatch):
    written = []

    class Fitted:
        def save(self, path):
            if not written:
                written.append(path)
                raise OSError(28, "No space left on device")
            path.write_text("fitted")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match="--out c.yaml: cannot be written .No space left on device.; it is in ") as raised:
        calibrating.save(Fitted(), Path("c.yaml"))
    (spare,) = tmp_path.glob("taylorseer-*/c.yaml")
    assert spare.read_text() == "fitted" and str(spare) in str(raised.value)


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[-40:])
def test_a_mistake_in_calibrating_is_one_line(words, message, capsys):
    try:
        code = calibrated(*words)
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr().err
    assert code == 2 and message in said and said.count("\n") == 1 and said.startswith("taylorseer-calibrate: ")
