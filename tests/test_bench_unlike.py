"""Pictures that are unlike those of a calibration: that they are so, and what is told of them."""

from pathlib import Path

import pytest
import torch

import benchmark
from bench import unlike as part
from bench.store import contents
from bench.workloads import embedded, unlike


def enlarged(kind, count=2):
    return unlike.pictures(kind, count).cond["concat"]


def test_photographs_are_the_held_out_ones():
    assert torch.equal(enlarged("photographs"), embedded.held_out(1.0, 2).cond["concat"])


def test_each_kind_is_what_it_says():
    spread = {kind: enlarged(kind).std((2, 3)).mean().item() for kind in unlike.MAKERS}
    assert spread["flat colour"] < 1e-5 < spread["contrast / 4"] < spread["photographs"] < spread["contrast x 3"]
    assert spread["contrast / 4"] == pytest.approx(spread["photographs"] / 4, rel=0.1)
    assert all(not torch.equal(*enlarged(kind)) for kind in unlike.MAKERS if kind != "photographs")


def test_stripes_are_black_and_white_and_letters_dark_on_white():
    draw = lambda kind: unlike.MAKERS[kind](unlike.generator(), 0, embedded.crops(1)[0])  # noqa: E731
    stripes, letters = draw("hard edges"), draw("text")
    assert set(stripes.flat) == {0, 255} and 0.4 < (stripes == 0).mean() < 0.6
    assert letters.min() < 30 and 0.3 < (letters == 255).mean() < 0.9


@pytest.mark.slow
def test_the_command_tells_of_each_kind_and_goes_on_from_its_rows(tmp_path, capsys, monkeypatch, coarsely):
    coarsely(part, 10)
    monkeypatch.setattr(part.unlike, "MAKERS", {kind: unlike.MAKERS[kind] for kind in ("photographs", "noise")})
    options = ["--pictures", "1", "--budgets", "5", "--out-dir", str(tmp_path)]
    assert benchmark.main(["unlike", *options]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()[2:] if line]
    assert [line[:2] for line in lines] == [["5", "photographs"], ["5", "noise"]]
    assert all(line[-1] in part.RIVALS and float(line[2].split("/")[0]) > float(line[3].split("/")[0]) for line in lines)
    monkeypatch.setattr(part, "sampled", None)
    assert benchmark.main(["unlike", *options]) == 0 and capsys.readouterr().out == shown


def test_the_page_shows_what_its_rows_say():
    folder = Path(part.__file__).parent
    table = part.table(contents(folder / "results" / "unlike.jsonl")[0][1:])
    assert all(line in (folder / "README.md").read_text() for line in table.splitlines())
