"""scripts/compare.py: which results a page shows, what it says of them, and that nothing outside it is asked for."""

import json
import re
from base64 import b64decode
from io import BytesIO
from math import inf, nan

import numpy as np
import pytest
from PIL import Image

from flat_results import BRIGHTER, GREY, SIZE, write_flat, write_result
from taylorseer_guider.commands import compare, sample
from taylorseer_guider.commands.page.encode import WIDEST_WEBP, data_uri
from taylorseer_guider.commands.page.strips import strip
from taylorseer_guider.commands.page.tables import columns_and_rows, shown
from taylorseer_guider.tiny.photographs import photograph


@pytest.fixture
def page(tmp_path, capsys):
    """``page(*results)``: (exit code, the page's text, its content, what was said on stderr)."""

    def write(*results):
        path = tmp_path / "page.html"
        code = compare.main([*map(str, results), "--out", str(path)])
        text = path.read_text() if path.exists() else ""
        found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)
        return code, text, json.loads(found[1]) if found else None, capsys.readouterr().err

    return write


def pixels(uri):
    return np.asarray(Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB"))


def table(group):
    """{label: {(band, name): text}} of a group's figures."""
    heads = [(column["band"], column["name"]) for column in group["columns"]]
    return {group["pictures"][row["picture"]]["label"]: dict(zip(heads, row["cells"], strict=True)) for row in group["rows"]}


# What is said.


def test_figures_are_printed_as_they_are_on_the_page(tmp_path, capsys):
    write_result(tmp_path / "out")
    assert compare.main([str(tmp_path / "out"), "--out", str(tmp_path / "page.html"), "--figures"]) == 0
    first, _, name, bands, heads, *rows = capsys.readouterr().out.splitlines()
    assert "1 picture, 1 run" in first and name == "cat_x4, seed 0"
    assert bands.split("  ")[-1] == "To the original" and bands.index("To the original") > bands.index("To the full run")
    assert [row.split("  ")[0] for row in rows] == ["bicubic", "full run, 6 calls", "3 calls"]
    assert all(len(row) == len(heads) for row in rows) and "38.59" in rows[-1]
    compare.main([str(tmp_path / "out"), "--out", str(tmp_path / "page.html")])
    assert len(capsys.readouterr().out.splitlines()) == 1


# Which results.


def test_a_folder_a_picture_and_its_json_are_the_same_result(tmp_path, page):
    path = write_result(tmp_path / "out")
    shown = [page(each) for each in (tmp_path / "out", path, path.with_suffix(".png"))]
    assert [code for code, *_ in shown] == [0, 0, 0]
    assert len({text for _, text, *_ in shown}) == 1
    assert page(tmp_path / "out", path, path)[1] == shown[0][1]
    for beside in ("_full", "_sheet"):  # each of its pictures
        (tmp_path / "out" / f"{path.stem}{beside}.png").touch()
        assert page(tmp_path / "out" / f"{path.stem}{beside}.png")[1] == shown[0][1]
    (tmp_path / "out" / "cat_x4_trajectory.json").write_text("{}")  # a map
    assert page(tmp_path / "out")[:2] == shown[0][:2]


def test_methods_and_budgets_of_one_picture_stand_side_by_side_and_other_seeds_and_pictures_apart(tmp_path, page):
    for job, calls in (("euler6-taylorseer-c4-s1", 4), ("euler6-taylorseer-i3-s1", 2), ("euler6-taylorseer-c2-s1", 2)):
        write_result(tmp_path / job, job=job, calls=calls)
    write_result(tmp_path / "seed", seed=1)
    write_result(tmp_path / "dog", name="dog_x4")
    code, _, content, _ = page(*(folder for folder in sorted(tmp_path.iterdir()) if folder.is_dir()))
    groups = {group["name"]: [picture["label"] for picture in group["pictures"]] for group in content["groups"]}
    assert code == 0 and content["summary"] == "3 pictures, 5 runs"
    assert groups == {
        "cat_x4, seed 0": [
            "low resolution, 12 × 8", "bicubic", "full run, 6 calls", "2 calls, euler6-taylorseer-c2-s1",
            "2 calls, euler6-taylorseer-i3-s1", "4 calls", "original",
        ],
        "cat_x4, seed 1": ["low resolution, 12 × 8", "bicubic", "full run, 6 calls", "3 calls", "original"],
        "dog_x4, seed 0": ["low resolution, 12 × 8", "bicubic", "full run, 6 calls", "3 calls", "original"],
    }  # fmt: skip


def test_pictures_of_one_name_that_are_not_the_same_picture_stand_apart(tmp_path, page):
    write_result(tmp_path / "a")
    write_result(tmp_path / "b", made_from={"picture": "another"})
    assert [group["name"] for group in page(tmp_path / "a", tmp_path / "b")[2]["groups"]] == ["cat_x4, seed 0"] * 2


def test_what_is_not_there_or_broken_is_named_and_the_rest_is_shown(tmp_path, page):
    write_result(tmp_path / "out")
    broken, gone = write_result(tmp_path / "out", name="a"), write_result(tmp_path / "out", name="b")
    no_run, cut = write_result(tmp_path / "out", name="c"), write_result(tmp_path / "out", name="d")
    odd, foreign = write_result(tmp_path / "out", name="e"), tmp_path / "out" / "foreign.json"
    broken.write_text("{")
    gone.with_name(f"{gone.stem}_full_run.png").unlink()
    no_run.with_suffix(".png").unlink()
    cut.with_suffix(".png").write_bytes(cut.with_suffix(".png").read_bytes()[:60])
    write_flat(odd.with_name(f"{odd.stem}_original.png"), 0, (5, 5))
    foreign.write_text('[{"loss": 1}]')
    for name, figures in (("f", {"report": [1]}), ("g", {"report": {"visits": [3]}}), ("h", {"made_from": []})):
        write_result(tmp_path / "out", name=name, **figures)
    code, _, content, said = page(tmp_path / "out")
    assert code == 1
    assert [group["name"] for group in content["groups"]] == ["b, seed 0", "cat_x4, seed 0", "e, seed 0"]
    for line in (
        f"{broken}: not a result of sample.py (JSONDecodeError",
        f"{foreign}: not a result of sample.py (TypeError",
        f"{gone.stem}_full_run.png: no such picture; {gone.stem} is shown without it",
        f"{no_run.with_suffix('.png')}: no such picture",
        f"{cut.with_suffix('.png')}: not a picture that can be read",
        f"{odd.stem}_original.png: not of the size of {odd.stem}.png; {odd.stem} is shown without it",
    ):
        assert f"taylorseer-compare: {line}" in said or f"/{line}" in said, said
    assert said.count("taylorseer-compare: ") == 9 and said.count("(TypeError") == 3


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("nowhere", "nowhere: no such file or folder; name a folder that sample.py wrote"),
        ("empty", "empty: no result of sample.py in this folder"),
        ("alone.png", "alone.json: not a result of sample.py (FileNotFoundError"),
    ],
)
def test_where_nothing_can_be_shown_no_page_is_written(tmp_path, page, result, message):
    (tmp_path / "empty").mkdir()
    write_flat(tmp_path / "alone.png", 0)
    code, text, _, said = page(tmp_path / result)
    assert (code, text) == (2, "") and message in said and said.count("\n") == 1


@pytest.mark.slow
def test_sample_lays_all_results_of_its_folder_side_by_side(tmp_path, capsys):
    Image.fromarray(photograph("chelsea")[100:132, 150:190]).save(tmp_path / "cat.png")
    command = f"--input-path {tmp_path / 'cat.png'} --shrink-first --num-steps 4 --out-dir {tmp_path / 'out'}".split()
    assert sample.main([*command, "--compare"]) == 0
    assert not (tmp_path / "out" / "report.html").exists()
    assert sample.main([*command, "--interval", "3", "--report"]) == 0
    assert f"{tmp_path / 'out' / 'report.html'}: 1 picture, 2 runs, " in capsys.readouterr().out
    assert sample.main([*command, "--report", "--no-compare", "--guider", "identity"]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    (group,) = json.loads(re.search(r'id="content">(.*?)</script>', text, re.DOTALL)[1])["groups"]
    assert [picture["label"] for picture in group["pictures"]] == [
        "low resolution, 10 × 8", "bicubic", "full run, 7 calls", "2 calls, heun4-taylorseer-half-s1",
        "2 calls, heun4-taylorseer-i3-s1", "7 calls", "original",
    ]  # fmt: skip
    assert [(strip["label"], strip["flat"]) for strip in group["strips"]] == [
        ("2 calls, 5 forecasts", False),
        ("2 calls, 5 forecasts", True),
    ]


# What the page holds.


def test_pictures_are_on_the_page_once_and_pixel_by_pixel(tmp_path, page):
    write_result(tmp_path / "out")
    write_result(tmp_path / "out", job="euler6-taylorseer-c2-s1", calls=2, run=BRIGHTER["run"] + 1)
    _, text, content, _ = page(tmp_path / "out")
    (group,) = content["groups"]
    shades = {picture["label"]: pixels(content["files"][picture["file"]]) for picture in group["pictures"]}
    assert {label: int(found[0, 0, 0]) - GREY for label, found in shades.items()} == {
        "low resolution, 12 × 8": 0, "bicubic": 40, "full run, 6 calls": 10, "2 calls": 14, "3 calls": 13, "original": 0,
    }  # fmt: skip
    assert shades["original"].shape == (SIZE[1], SIZE[0], 3) and all(np.ptp(found) == 0 for found in shades.values())
    assert len(content["files"]) == 6 and all(text.count(uri) == 1 for uri in content["files"].values())


def test_figures_are_of_the_pictures_that_the_page_shows(tmp_path, page):
    write_result(tmp_path / "out")
    figures = table(page(tmp_path / "out")[2]["groups"][0])
    decibels = lambda levels: f"{20 * np.log10(255 / levels):.2f}"  # noqa: E731
    assert figures["bicubic"]["To the original", "PSNR, dB"] == decibels(40)
    assert figures["3 calls"]["To the full run", "PSNR, dB"] == decibels(3)
    assert figures["3 calls"]["To the original", "PSNR, dB"] == decibels(13)
    assert figures["full run, 6 calls"]["To the full run", "PSNR, dB"] == "–"
    costs = [
        [figures[label]["Cost", name] for name in ("calls", "seconds", "speed-up")] for label in ("full run, 6 calls", "3 calls")
    ]
    assert costs == [["6", "3.0", "–"], ["3", "1.5", "2.00×"]]


def test_a_figure_that_lacks_or_is_no_number_is_a_dash_and_the_page_is_written_all_the_same(tmp_path, page):
    write_result(tmp_path / "out", full_calls=None, seconds=nan, speed_up=inf)
    code, _, content, _ = page(tmp_path / "out")
    (group,) = content["groups"]
    figures = table(group)
    assert code == 0 and figures["full run, – calls"]["Cost", "calls"] == "–"
    assert [figures["3 calls"].get(("Cost", name)) for name in ("calls", "seconds")] == ["3", "–"]
    assert group["pictures"][group["right"]]["caption"].startswith("3 calls instead of –, ")


def test_perceptual_figures_are_there_where_their_packages_are_and_the_page_says_where_not(tmp_path, page, monkeypatch):
    write_result(tmp_path / "out")
    from taylorseer_guider.commands import perceptual

    names = {"FLIP": "flip-evaluator", "SSIMULACRA2": "ssimulacra2"}
    content = page(tmp_path / "out")[2]
    assert {name for _, name in table(content["groups"][0])["bicubic"]} >= {
        name for name, package in names.items() if package not in perceptual.available()
    }
    monkeypatch.setattr(perceptual, "_installed", lambda package: False)
    content = page(tmp_path / "out")[2]
    assert not {name for _, name in table(content["groups"][0])["bicubic"]} & names.keys()
    assert [note for note in content["notes"] if "pip install" in note and "ssimulacra2 is not installed" in note]


def test_a_run_without_a_full_one_is_shown_without_what_it_would_say(tmp_path, page):
    write_result(tmp_path / "out", full=False)
    (group,) = page(tmp_path / "out")[2]["groups"]
    assert not {band for band, _ in table(group)["3 calls"]} & {"To the full run"}
    assert group["strips"][0]["flat"] and "--compare" in group["bars"]


def test_a_name_is_text_wherever_it_comes_from(tmp_path, page):
    name = "<b onload=alert(1)>.png</script><!--&"
    path = write_result(tmp_path / "out")
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))
    _, text, content, _ = page(tmp_path / "out")
    assert content["groups"][0]["name"] == f"{name}, seed 0"
    assert "<b " not in text and text.count("</script>") == 2 and "<!--" not in text


def test_the_page_refers_to_nothing_outside_it(tmp_path, page):
    write_result(tmp_path / "out")
    _, text, content, _ = page(tmp_path / "out")
    for uri in content["files"].values():
        text = text.replace(uri, "")
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(|<link(?! rel=\"icon\" href=\"data:,\")|\ssrc=|fetch\(|XMLHttp|import\(", text
    )
    assert "default-src 'none'" in text


def test_what_is_too_long_for_webp_is_png(tmp_path):
    long = np.zeros((1, WIDEST_WEBP + 1, 3), np.uint8)
    assert data_uri(long[:, 1:]).startswith("data:image/webp;") and data_uri(long).startswith("data:image/png;")
    assert pixels(data_uri(long)).shape == long.shape


# Figures as text.


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (nan, "–"), ("text", "–"), (-inf, "–"), (inf, "identical"), (-1.25, "−1.2"), (3, "3.0")]
)
def test_a_figure_that_is_none_is_a_dash(value, text):
    assert shown(value, "{:.1f}") == text


def test_columns_without_a_figure_are_left_out():
    rows = [{"picture": 0, "values": {("Cost", "calls"): 3, ("To the original", "SSIM"): nan}}, {"picture": 1, "values": {}}]
    columns, rows = columns_and_rows(rows)
    assert [column["name"] for column in columns] == ["calls"]
    assert rows == [{"picture": 0, "cells": ["3"]}, {"picture": 1, "cells": ["–"]}]


def test_a_strip_says_all_that_is_known_of_a_visit_and_nothing_else():
    called = {"sigma": 2.5, "action": "call", "order": 0, "weight_sum": 1.0, "error": None, "seconds": 0.5}
    made = {"sigma": None, "action": "forecast", "order": 2, "weight_sum": 3.25, "error": 0.01, "seconds": 0.002}
    figures = {"calls": 1, "job": "job", "report": {"visits": [called, made]}, "visit_errors": [0.0, nan]}
    found = strip(figures)
    assert [bar["text"] for bar in found["visits"]] == [
        "Visit 1 of 2, σ 2.5: called; the full run's output exactly; 0.50 s",
        "Visit 2 of 2, σ –: forecast, order 2; Σ|w| 3.25; 1 % expected; 2.00 ms",
    ]
    assert [bar["error"] for bar in found["visits"]] == [0.0, None] and not found["flat"]
    assert strip({**figures, "report": None}) is None
    assert strip({**figures, "visit_errors": None})["flat"]


@pytest.mark.parametrize(
    ("out", "message"), [("nowhere/page.html", "no such folder; make it first"), (".", "a folder; name a file in it")]
)
def test_where_the_page_goes_is_looked_at_before_any_result(tmp_path, monkeypatch, capsys, out, message):
    monkeypatch.setattr(compare, "write_report", lambda *args: pytest.fail("read before"))
    assert compare.main([str(tmp_path), "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
