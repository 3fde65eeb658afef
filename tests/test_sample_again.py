"""scripts/sample.py on several pictures: what one teaches the next, and what becomes of results when a command is run again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taylorseer_guider import Calibration
from taylorseer_guider.commands import making, sample, trajectory

CONFIG = Path(__file__).parents[1] / "configs" / "mixture.yaml"
GUIDER = "sampler_config.params.guider_config.params"


def run(*arguments, config=True):
    given = ["--config", CONFIG] if config else []
    return sample.main([str(argument) for argument in (*given, "--num-steps", 8, *arguments)])


def records(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.mark.parametrize("compare", ["--compare", "--no-compare"])
def test_the_first_picture_teaches_the_others(compare, tmp_path):
    assert run("--out-dir", tmp_path, "--calls", 4, "--seeds", 0, 1, 2, compare, f"{GUIDER}.learn=true") == 0
    first, *others = records(tmp_path)
    assert first["report"]["calls"] == 15 and [other["report"]["calls"] for other in others] == [4, 4]


@pytest.mark.parametrize("again", ["--overwrite", "--compare"])
def test_what_is_there_stays_until_its_successor_is_made(again, tmp_path, monkeypatch):
    options = ("--out-dir", tmp_path, "--calls", 4, "--seeds", 0, 1, 2)
    assert run(*options, "--no-compare") == 0
    before = records(tmp_path)
    made = making.make

    def stopped(job, args, engine, task, *others):
        if task.seed == 1:
            raise KeyboardInterrupt
        return made(job, args, engine, task, *others)

    monkeypatch.setattr(making, "make", stopped)
    assert run(*options, again) == 130
    assert len(records(tmp_path)) == 3 and records(tmp_path)[1:] == before[1:]


def test_a_result_whose_full_run_is_gone_is_made_again(tmp_path, capsys):
    options = ("--out-dir", tmp_path, "--calls", 4, "--seeds", 0, 1, "--compare")
    assert run(*options) == 0
    full = next(tmp_path.glob("*seed1_full.png"))
    full.unlink()
    capsys.readouterr()
    assert run(*options) == 0
    assert "there, without its full_run: made again" in capsys.readouterr().out and full.exists()


@pytest.mark.slow
def test_a_calibration_of_one_budget_says_how_many_calls_there_are(tmp_path):
    shipped = Calibration.load(CONFIG.with_name("tiny_calibration.yaml"))
    replace(shipped, budgets={6: shipped.budgets[6]}).save(tmp_path / "one.yaml")
    Image.fromarray(np.full((12, 12, 3), 99, np.uint8)).save(tmp_path / "flat.png")
    options = ("--input-path", tmp_path / "flat.png", "--out-dir", tmp_path / "out", "--calibration", tmp_path / "one.yaml")
    assert sample.main([str(option) for option in options]) == 0
    assert records(tmp_path / "out")[0]["calls"] == 6


@pytest.mark.slow
def test_a_map_takes_any_name_of_a_file(tmp_path):
    names = ["a$_$.png", f"{'long' * 60}.png", "z.png"]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(folder / name)
    options = ("--input-path", folder, "--out-dir", tmp_path / "out", "--num-steps", "4")
    assert trajectory.main([str(option) for option in options]) == 0
    assert len(list((tmp_path / "out").glob("*_trajectory.png"))) == 3


def test_what_a_config_gets_wrong_in_an_engine_is_one_line(tmp_path, capsys):
    assert run("--out-dir", tmp_path, "--calls", 4, "engine.params.count=abc") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "engine: cannot" in said[0]


def test_a_group_that_the_config_has_not_can_be_set_by_its_option(tmp_path):
    assert run("--out-dir", tmp_path, "--no-compare", f"{GUIDER}.plan.tolerance=.5") == 0
    assert records(tmp_path)[0]["report"]["forecasts"] > 0
