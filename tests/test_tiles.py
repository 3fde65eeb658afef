"""Tiles of a large picture: they cover it once, share its noise, meet without a seam, and take the memory of one."""

import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from taylorseer_guider import tiny
from taylorseer_guider.commands.job import Job
from taylorseer_guider.commands.sample import parse
from taylorseer_guider.commands.sampling import sample
from taylorseer_guider.engines import tiles
from taylorseer_guider.tiny.photographs import photograph

FACTOR = tiny.FACTOR


@pytest.mark.parametrize("size", [(1, 1), (16, 40), (64, 72), (129, 257), (33, 500)])
@pytest.mark.parametrize("tile", [64, 128, 512])
def test_windows_keep_every_pixel_once_see_a_margin_and_begin_on_the_grid(size, tile):
    kept = torch.zeros(size, dtype=int)
    for window in tiles.windows(*size, tile, FACTOR):
        kept[window.kept] += 1
        for seen, own, length in zip(window.seen, window.kept, size, strict=True):
            assert seen.start * FACTOR % tiles.GRID == 0 and own.stop - own.start <= tile // FACTOR
            assert seen.start == 0 or (own.start - seen.start >= tiles.MARGIN // FACTOR and seen.start > 0)
            assert seen.stop == length or (seen.stop - own.stop >= tiles.MARGIN // FACTOR and seen.stop < length)
            assert seen.stop - seen.start <= (tile + 2 * tiles.MARGIN + tiles.GRID) // FACTOR
        inside, whole = window.inside(FACTOR), tiles.scaled(window.kept, FACTOR)
        assert [s.stop - s.start for s in inside] == [s.stop - s.start for s in whole]
    assert (kept == 1).all()


@pytest.mark.parametrize("size", [(4, 4), (32, 64), (100, 36), (260, 1028)])
def test_noise_that_is_drawn_by_rows_is_that_drawn_at_once(size):
    whole = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(5))
    noise = tiles.Noise(whole.shape, 5)
    for start in range(0, size[0], tiles.GRID):
        for stop in {start + 1, min(start + 50, size[0]), size[0]}:
            assert torch.equal(noise.rows(start, stop), whole[:, :, start:stop])


def test_a_tile_starts_from_its_part_of_the_noise_of_the_whole():
    engine = Job.of(parse([])).engine()
    small = torch.zeros(1, 3, 40, 48)
    noise = engine.arguments(small, 7)["x"]
    for window, piece, arguments in engine.pieces(small, 7, 64):
        assert torch.equal(arguments["x"], noise[(..., *tiles.scaled(window.seen, FACTOR))])
        assert arguments["cond"]["concat"].shape[-2:] == tuple(FACTOR * n for n in piece.shape[-2:])


@pytest.mark.parametrize(
    ("options", "fit"),
    [
        ({}, True),
        ({"calibration": None, "interval": 3, "calls": None}, True),
        ({"calibration": None, "plan": {"tolerance": 0.1}, "calls": None}, False),  # each tile would plan for itself
        ({"calibration": None, "learn": True}, False),  # and learn by itself
    ],
    ids=str,
)
def test_tiles_are_for_what_is_decided_by_the_schedule_alone(options, fit):
    job = Job.of(parse([]))
    sampler = job.sampler(**options)
    assert tiles.can_be_tiled(job.engine(), sampler) == fit
    sampler.s_churn = 1.0  # noise that each tile would draw for itself
    assert not tiles.can_be_tiled(job.engine(), sampler)


def seam(pictures, windows):
    """Gradient energy across the borders of tiles, as a multiple of that of the same places without tiles."""
    columns = {window.kept[1].start * FACTOR for window in windows} - {0}
    rows = {window.kept[0].start * FACTOR for window in windows} - {0}
    tiled, whole = (
        sum((p[..., c] - p[..., c - 1]).square().sum() for c in columns)
        + sum((p[..., r, :] - p[..., r - 1, :]).square().sum() for r in rows)
        for p in pictures
    )
    return (tiled / whole).item()


def both_ways(words, tile=128):
    """(the picture made in tiles, that made in one piece), in grey levels, and the Windows."""
    job = Job.of(parse(["--num-steps", "3", *words]))
    engine, small = job.engine(), tiny.from_uint8(photograph("coffee")[120:184, 150:222].copy())[None]
    made, whole = (sample(engine, job.sampler(), small, 0, tile=n).picture for n in (tile, 0))
    levels = [tiny.to_uint8(picture).movedim(-1, -3).double() for picture in (made, whole)]
    return levels, tiles.windows(*small.shape[-2:], tile, FACTOR)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--interval", "1"], ["--interval", "2", "--scale", "2"]], ids=str)
def test_a_tiled_picture_is_that_made_in_one_piece_to_a_grey_level_and_has_no_seams(words, monkeypatch):
    (made, whole), windows = both_ways(words)
    assert len(windows) == 6 and made.shape == whole.shape == (1, 3, 256, 288)
    assert (made - whole).abs().max() <= 1 and (made != whole).double().mean() < 0.02
    assert seam((made, whole), windows) == pytest.approx(1, abs=0.01)
    monkeypatch.setattr(tiles, "MARGIN", 0)  # what the margin is for
    (cut, whole), windows = both_ways(words)
    assert (cut - whole).abs().max() > 10 and seam((cut, whole), windows) > 1.1


GIVEN_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is, so that a peak is what is held
PEAK = """
import sys
from pathlib import Path
from taylorseer_guider.commands.sample import main
assert main(sys.argv[1:]) == 0
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) >> 10)
"""


def peak(folder, name, width, height, tile):
    """MiB that the program has at most while it makes one call on a picture of ``width`` x ``height``."""
    Image.fromarray(photograph("coffee")[:height, :width]).save(folder / f"{name}.png")
    words = ["--input-path", folder / f"{name}.png", "--tile", tile, "--num-steps", 1, "--out-dir", folder / "out"]
    command = [str(word) for word in (sys.executable, "-c", PEAK, *words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env={**os.environ, **GIVEN_BACK})
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak in /proc")
def test_memory_is_that_of_one_tile_however_large_the_picture(tmp_path):
    base = peak(tmp_path, "base", 8, 8, 0)
    whole = peak(tmp_path, "whole", 128, 128, 0) - base
    small, large = (peak(tmp_path, name, width, 128, 128) - base for name, width in (("small", 64), ("large", 128)))
    assert whole > 100 and large < 0.4 * whole and large < small + 0.05 * whole
