"""How far a calibration reaches: every run once, beside its own fit and the nearest solver."""

import json
from pathlib import Path

import pytest

import benchmark
from bench import fits, reach
from bench.store import contents

pytestmark = pytest.mark.filterwarnings("ignore:__array")  # NumPy's, about the schedulers of diffusers


@pytest.mark.slow
def test_the_command_tells_of_steps_scales_and_sizes_and_goes_on_from_its_rows(tmp_path, capsys, monkeypatch, coarsely):
    coarsely(reach, 20)
    for name, few in {"STEPS": (12,), "SIZES": {16: 1}, "BETWEEN": (1.75,)}.items():
        monkeypatch.setattr(reach, name, few)
    monkeypatch.setattr(fits, "GRADIENTS", 0)
    options = ["--quick", "--out-dir", str(tmp_path)]
    assert benchmark.main(["reach", *options]) == 0
    shown = capsys.readouterr().out
    for name in reach.SAMPLERS:
        line = next(line for line in shown.splitlines() if line.startswith(f"12 steps, {name} "))
        assert len(line.split()) == 3 + 5  # two weights, none, a solver and its name
    assert "\nscale 1.75 " in shown and "\n16 px " in shown and "\n16 px, 12 steps, DPM++2M " in shown
    rows = [json.loads(line) for line in (tmp_path / "reach.jsonl").read_text().splitlines()[1:]]
    assert {row["calls"] for row in rows if row["family"] != reach.SOLVERS} == {reach.BUDGET}
    monkeypatch.setattr(reach, "sampled", None)
    monkeypatch.setattr(reach, "calibrated", None)
    assert benchmark.main(["reach", *options]) == 0 and capsys.readouterr().out == shown


def rows_of(setting, **worth):
    return [
        {"table": "mixture", "setting": setting, "label": label, "family": "ours", "budget": reach.BUDGET, "exact_dB": dB}
        for label, dB in worth.items()
    ]


def test_the_solver_that_is_shown_is_the_nearest_on_the_same_workload():
    rows = [*rows_of(None, Euler=[30.0, 30.0], DEIS3=[40.0, 36.0]), *rows_of("12 steps, LMS", **{reach.ALONE: [44.0, 42.0]})]
    rows[:2] = [{**row, "family": reach.SOLVERS} for row in rows[:2]]
    assert reach.table("mixture", rows).splitlines()[-1].split() == ["12", "steps,", "LMS", "43.0/42.0", "38.0/36.0", "DEIS3"]


def test_the_page_shows_what_its_rows_say():
    folder = Path(reach.__file__).parent
    rows, page = contents(folder / "results" / "reach.jsonl")[0][1:], (folder / "README.md").read_text()
    steps = f"mixture, scale {reach.SCALE:g}"
    questions = {row["table"]: row["table"].split(",")[0] + ", steps" * (row["table"] == steps) for row in rows}
    for question in set(questions.values()):
        table = reach.table(question, [row for row in rows if questions[row["table"]] == question])
        assert all(line in page for line in table.splitlines()[1:])
