"""Calibration files that are broken, cut off or hostile: refused in one line, at once."""

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from problems import sampler
from taylorseer_guider import Calibration, TaylorSeerGuider

SHIPPED = Path(__file__).parents[1] / "configs" / "tiny_calibration.yaml"
ENTRIES = {  # what each may hold, but for the one that is the bomb
    "format": "taylorseer_guider calibration 1", "sampler": "HeunEDMSampler", "guider": "IdentityGuider", "scale": "1.0",
    "sigmas": "[2.0, 1.0, 0.0]", "branches": "1", "history": "1", "budgets": "{}", "about": "{}",
}  # fmt: skip


@contextmanager
def within(seconds):
    """The test fails where what is in the context takes longer, even if it would never end."""

    def late(number, frame):
        pytest.fail(f"took longer than {seconds} s")  # no Exception: nothing on the way takes it for an error of its own

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(path, seconds=1.0):
    """The one line with which ``path`` is refused, by the class and by the guider."""
    with within(seconds):
        with pytest.raises(ValueError, match="calibration") as raised:
            Calibration.load(path)
        with pytest.raises(ValueError, match="calibration"):
            TaylorSeerGuider(scale=1.0, calibration=str(path))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 1000
    return str(raised.value)


def bomb(entry):
    """A file of half a KiB whose ``entry`` is a list of a hundred million texts, by way of aliases of aliases."""
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(10 * [f'*{a}'])}]" for a, b in zip(names, names[1:], strict=False)]
    return "\n".join([*lines, *(f"{key}: {'*i' if key == entry else value}" for key, value in ENTRIES.items())]) + "\n"


@pytest.mark.parametrize("entry", ENTRIES)
def test_aliases_of_aliases_are_refused_in_a_second(entry, tmp_path):
    path = tmp_path / "bomb.yaml"
    path.write_text(bomb(entry))
    assert path.stat().st_size < 1000
    refused(path)


def cuts(whole, line, every):
    """Where to cut: around every ``line``-th end of a line, and at every so many bytes."""
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")][::line]
    return {i + shift for i in ends for shift in (0, 1)} | set(range(0, len(whole), every))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["as shipped", "of two budgets"])
def test_a_file_that_is_cut_off_anywhere_is_refused(which, tmp_path):
    """A short file cut in hundreds of places; the shipped one in some, and wherever a budget ends, and near its end."""
    path, shipped = tmp_path / "cut.yaml", Calibration.load(SHIPPED)
    if which == "as shipped":
        whole = SHIPPED.read_bytes()
        heads = [whole.index(f"\n  {calls}:".encode()) for calls in shipped.budgets]
        places = cuts(whole, 40, 40 * 37) | {head + shift for head in heads for shift in range(3)}
        places |= set(range(len(whole) - 300, len(whole), 11))
    else:
        replace(shipped, budgets={calls: shipped.budgets[calls] for calls in sorted(shipped.budgets)[:2]}).save(path)
        whole = path.read_bytes()
        places = cuts(whole, 1, 2 * 37)
    for cut in sorted(places - {len(whole), len(whole) - 1}, reverse=True):  # the last ones first: there a file is nearly whole
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="calibration"):
            Calibration.load(path)


def test_the_file_that_is_whole_is_taken():
    assert Calibration.load(SHIPPED).budgets


def weighing(path, weight, calls=5):
    """A file as the library writes it, with every weight of one budget set to ``weight``. Returns its path."""
    shipped = Calibration.load(SHIPPED)
    budget = shipped.budgets[calls]
    rows = tuple(replace(row, weights=tuple(weight for _ in row.weights)) for row in budget.rows)
    replace(shipped, budgets={calls: replace(budget, rows=rows)}).save(path)
    return path


@pytest.mark.parametrize("weight", [1e38, -1e38])
def test_weights_that_no_fit_gives_are_refused(weight, tmp_path):
    path = tmp_path / "heavy.yaml"
    with pytest.raises(ValueError, match="weight") as raised:
        Calibration.load(weighing(path, weight))
    assert "\n" not in str(raised.value)


def test_weights_whose_answers_overflow_are_an_error_that_blames_the_calibration(tmp_path):
    """No larger than fitted ones, and the denoiser's own outputs are finite: it is the answers that are not."""
    path = weighing(tmp_path / "wild.yaml", 9.0)
    built = sampler("HeunEDMSampler", scale=1.0, calibration=str(path))
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)).half()
    with pytest.raises(FloatingPointError, match=r"calibration|wild\.yaml"):
        built(lambda x, sigma, cond: torch.full_like(x, 0.5), x, {}, {})


def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    refused(tmp_path / "pipe.yaml")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_link_to_a_device_is_refused(device, tmp_path):
    link = tmp_path / "endless.yaml"
    link.symlink_to(device)
    started = time.perf_counter()
    refused(link)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("what", ["folder", "nothing", "dangling"])
def test_what_is_no_file_is_refused(what, tmp_path):
    path = tmp_path / "what.yaml"
    if what == "folder":
        path.mkdir()
    if what == "dangling":
        path.symlink_to(tmp_path / "gone.yaml")
    refused(path)
