"""scripts/first_steps.ipynb: its cells run, and what they find is what its text says and what is stored beside them."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch

NOTEBOOK = Path(__file__).parents[1] / "scripts" / "first_steps.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
SECONDS = re.compile(r"\d+\.\d+(?= s\b)|\d+\.\d\d(?=  \w)")  # of a run, and milliseconds of a visit
NUMBER = re.compile(r"\d+\.\d+")


@pytest.fixture(scope="module")
def ran():
    """(what the cells define, what each of them printed)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names, printed = {}, []
    for number, cell in enumerate(CODE):
        with redirect_stdout(StringIO()) as said:
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
        printed.append(said.getvalue())
    pyplot.close("all")
    return names, printed


def stored(cell):
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


@pytest.mark.slow
def test_what_is_stored_is_what_comes_out(ran):
    for cell, printed in zip(CODE, ran[1], strict=True):
        ours, theirs = (SECONDS.sub("", text) for text in (printed, stored(cell)))
        assert NUMBER.sub("", ours).split() == NUMBER.sub("", theirs).split()
        for found, told in zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True):
            assert float(found) == pytest.approx(float(told), abs=1)


@pytest.mark.slow
def test_the_swap_forecasts_and_the_first_picture_that_is_learnt_from_is_the_hosts(ran):
    names, printed = ran
    assert "39 calls" in printed[2] and "10 calls" in printed[3]
    assert names["swapped"].guider.report.calls == 10 and list(names["alone"]) == [5, 8, 10, 13]
    assert torch.equal(names["first"], names["full"])
    assert names["report"].calls == 39 and names["report"].learnt.cost <= 39


@pytest.mark.slow
def test_what_was_learnt_is_better_than_calls_alone_and_a_calibration_is_better_still(ran):
    names, _ = ran
    assert names["learning"].guider.report.calls == 8 == names["calls"]
    near = {name: names["decibels"](picture, names["whole"]) for name, picture in names["unseen"].items()}
    assert near["alone"] + 1 < near["learnt"] < near["calibrated"]


def test_it_is_small_and_was_run_from_top_to_bottom():
    assert NOTEBOOK.stat().st_size < 300 << 10
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert sum(output["output_type"] == "display_data" for cell in CODE for output in cell["outputs"]) == 3


def test_it_links_to_pages_that_are_there():
    text = "".join(line for cell in CELLS if cell["cell_type"] == "markdown" for line in cell["source"])
    links = re.findall(r"\]\((.+?)\)", text)
    assert links and all((NOTEBOOK.parent / link).is_file() for link in links)
