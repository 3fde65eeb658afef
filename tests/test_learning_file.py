"""The file that holds what a guider has learnt, and mistakes about it."""

import math
import re

import pytest
import torch

from lessons import CALLS, HOSTS, LEARN, SCALE, counted, problem_of, taught
from loops import said
from problems import sampler
from taylorseer_guider import Calibration, TaylorSeerGuider


def test_a_file_is_written_once_and_read_by_the_next_guider_for_one_more_call(tmp_path):
    path = tmp_path / "learnt.yaml"
    problem, built = taught(learn=str(path))
    assert built.guider.report.learnt.cost + 39 == problem.calls <= 78
    inputs = problem.inputs(seed=4)
    expected, written = built(problem, *inputs), path.read_bytes()
    again = sampler("HeunEDMSampler", **{**LEARN, "learn": path})
    result, calls = counted(again, problem, inputs)
    assert torch.equal(result, expected) and calls == CALLS + 1  # the fingerprint, once
    assert again.guider.report.calls == CALLS and again.guider.report.learnt == built.guider.report.learnt
    assert counted(again, problem, inputs)[1] == CALLS
    assert path.read_bytes() == written and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("steps", [12, 20])
@pytest.mark.parametrize("name", HOSTS)
def test_a_file_serves_other_samplers_and_schedules_and_knows_its_checkpoint_there(name, steps, tmp_path):
    path = str(tmp_path / "learnt.yaml")
    problem, built = taught(learn=path)
    inputs = problem.inputs(seed=4)
    again = sampler(name, num_steps=steps, **{**LEARN, "learn": path})
    result, calls = counted(again, problem, inputs)
    torch.testing.assert_close(result, built(problem, *inputs), rtol=1e-6, atol=1e-6)
    assert calls == CALLS + 1 and counted(again, problem, inputs)[1] == CALLS
    problem.means = problem.means * 1.2
    with pytest.raises(ValueError, match="another checkpoint.*remove the file"):
        sampler(name, num_steps=steps, **{**LEARN, "learn": path})(problem, *inputs)


def test_where_a_sampler_asks_its_denoiser_by_itself_the_log_says_that_the_checkpoint_is_not_known(tmp_path, caplog):
    """Stability sgm's linear multistep."""
    path = str(tmp_path / "learnt.yaml")
    problem, _ = taught(learn=path)
    again = sampler("LinearMultistepSampler", **{**LEARN, "learn": path})
    again.guider.opens = lambda *_: None
    for seed in (3, 4):
        assert counted(again, problem, problem.inputs(seed=seed))[1] == CALLS
    (warning,) = said(caplog)
    assert "whether it is of this checkpoint is not known, since LinearMultistepSampler asks" in warning.getMessage()


@pytest.mark.parametrize(
    ("change", "why"), [("scale", "scale is 3.0 here, it was fitted for 2.0"), ("size", "x is .3, 6, 6. here")]
)
def test_a_file_of_other_runs_is_left_and_they_are_learnt_anew(change, why, tmp_path, caplog):
    path = tmp_path / "learnt.yaml"
    problem, _ = taught(learn=str(path))
    written = path.read_bytes()
    other = sampler("HeunEDMSampler", **{**LEARN, "learn": str(path), "scale": 3.0 if change == "scale" else SCALE})
    problem = problem_of(shape=(3, 6, 6)) if change == "size" else problem
    assert counted(other, problem, problem.inputs())[1] > 39
    assert counted(other, problem, problem.inputs(seed=3))[1] == CALLS
    (warning,) = said(caplog)
    assert re.search(why, warning.getMessage()) and path.read_bytes() == written


def test_mistakes_are_said_at_construction(tmp_path):
    path = tmp_path / "learnt.yaml"
    for message, options in {
        "learn=True: say for how many calls": {"calls": None},
        "calls=8: each plans the calls": {"plan": {"tolerance": 0.1}},
        "both bring plan and weights": {"calibration": "file.yaml"},
        "what `learn` finds reuses visits": {"repeat_visits": "compute"},
        "forecast.quantity='eps'.*goes from the solver's weights": {"forecast": {"quantity": "eps"}},
        "learn=3": {"learn": 3},
        "step_threshold=3.0: `learn` makes as many calls as are said": {"step_threshold": 3.0},
        "there is no such folder": {"learn": str(tmp_path / "none" / "learnt.yaml")},
        "holds budgets of 8 calls": {"learn": str(path), "calls": 9},
    }.items():
        if options.get("calls") == 9:
            taught(learn=str(path))
        with pytest.raises(ValueError, match=message):
            TaylorSeerGuider(**{**LEARN, **options})
    whole = Calibration.load(path)
    about = dict(whole.about)
    whole.about.clear()
    whole.save(path)
    with pytest.raises(ValueError, match="it was not learnt; give it as `calibration`"):
        TaylorSeerGuider(**{**LEARN, "learn": str(path)})
    whole.about.update(about)
    for name, wrong in {"alone_db": -math.inf, "samples": "many", "fingerprint": {1: 2}, "shapes": [["a", "b"]]}.items():
        Calibration(**{**vars(whole), "about": {**about, name: wrong}}).save(path)
        with pytest.raises(ValueError, match=f"^learn='{path}': it was not learnt"):
            TaylorSeerGuider(**{**LEARN, "learn": str(path)})
    path.write_text("torn")
    with pytest.raises(ValueError, match="not a whole calibration file"):
        TaylorSeerGuider(**{**LEARN, "learn": str(path)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("false", "learn='false' is a text: write it without quotes, or give a path such as './false'"),
        ("", "learn='': give true or false, or the path of a file"),
        (1, "learn=1: give true or false, or the path of a file"),
        ("x" * 300, f"learn='{'x' * 300}': no path of a file"),
        ("/proc", "learn='/proc': cannot be read (it is no regular file)"),
    ],
)
def test_what_is_no_file_is_said_with_the_name_of_the_option(value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        TaylorSeerGuider(scale=2.0, calls=8, learn=value)
