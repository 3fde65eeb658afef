"""What a command finds done, and what it makes again: a result is what it was made from, and a broken picture stops no other."""

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from taylorseer_guider import tiny
from taylorseer_guider.commands import estimate, sample
from taylorseer_guider.commands.folder import Picture, Task, Work
from taylorseer_guider.commands.job import Job
from taylorseer_guider.commands.origin import origin
from taylorseer_guider.commands.pictures import replacing
from taylorseer_guider.commands.progress import Progress
from taylorseer_guider.commands.results import read_folder, read_record
from taylorseer_guider.engines.pictures import named_apart, read_picture

CONFIGS = Path(__file__).parents[1] / "configs"
GUIDER = "sampler_config.params.guider_config.params"
STEM = "b_x4_heun2-taylorseer-half-s1_seed0"


def run(*words, out):
    return sample.main([str(word) for word in (*words, "--num-steps", 2, "--out-dir", out)])


def picture(path, colour="teal", size=(4, 4)):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def made(out):
    """When each picture of ``out`` was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}


# What is there already.


def test_a_changed_picture_is_made_again_and_one_that_came_from_elsewhere_is_not(tmp_path, capsys):
    path, out = picture(tmp_path / "b.png"), tmp_path / "out"
    assert run("--input-path", path, out=out) == 0
    first = made(out)
    moved = tmp_path / "moved" / "b.png"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    assert run("--input-path", moved, out=out) == 0 and made(out) == first
    assert "there already, skipped: 1" in capsys.readouterr().out
    picture(path, "red")
    assert run("--input-path", path, out=out) == 0 and made(out).keys() == first.keys()
    assert f"there, but another picture: made again ({STEM}.png)" in capsys.readouterr().out
    assert np.asarray(Image.open(out / f"{STEM}.png")).mean(axis=(0, 1))[0] > 200


def test_another_picture_of_the_same_name_gets_a_name_of_its_own_once(tmp_path):
    one, other, out = picture(tmp_path / "b.png"), picture(tmp_path / "sub" / "b.png", "red"), tmp_path / "out"
    for path in (one, other, one, other):
        assert run("--input-path", path, out=out) == 0
    first = read_record(out, STEM)
    content = read_record(out, next(path.stem for path in out.glob("b-*.json")))["made_from"]["picture"]
    assert sorted(path.name for path in out.glob("*_seed0.png")) == [f"b-{content[:8]}{STEM[1:]}.png", f"{STEM}.png"]
    assert first["source"] == str(one) and first["made_from"]["picture"] != content


def test_comparing_and_shrinking_after_a_plain_run_do_what_they_say_and_the_other_way_round(tmp_path):
    path, out = picture(tmp_path / "b.png", size=(8, 8)), tmp_path / "out"
    assert run("--input-path", path, out=out) == 0
    assert run("--input-path", path, "--compare", out=out) == 0
    assert read_record(out, STEM)["full_calls"] == 3 and (out / f"{STEM}_full.png").exists()
    before = made(out)
    assert run("--input-path", path, out=out) == 0 and made(out) == before  # a compared result is a plain one, too
    assert run("--input-path", path, "--shrink-first", out=out) == 0
    assert "to_original" in read_record(out, STEM) and Image.open(out / f"{STEM}.png").size == (8, 8)
    assert not (out / f"{STEM}_full.png").exists()  # it was that of another picture


def test_a_result_of_a_version_without_records_is_made_again_and_its_figures_are_read(tmp_path, capsys):
    path, out = picture(tmp_path / "b.png"), tmp_path / "out"
    picture(out / f"{STEM}.png")
    (out / "report.json").write_text(json.dumps({f"{STEM}.png": {"calls": 3}, "older.png": {"calls": 5}}))
    assert read_folder(out)[f"{STEM}.png"] == {"calls": 3}
    assert run("--input-path", path, out=out) == 0
    assert "nothing beside it that says what it was made from: made again" in capsys.readouterr().out
    records = read_folder(out)
    assert records[f"{STEM}.png"]["calls"] == 1 and records["older.png"] == {"calls": 5}


def test_a_record_that_is_cut_off_is_none(tmp_path):
    path, out = picture(tmp_path / "b.png"), tmp_path / "out"
    assert run("--input-path", path, out=out) == 0
    whole = (out / f"{STEM}.json").read_text()
    (out / f"{STEM}.json").write_text(whole[: len(whole) // 2])
    assert read_record(out, STEM) is None and read_folder(out) == {}
    assert run("--input-path", path, out=out) == 0 and read_record(out, STEM)


def origin_of(*words):
    job = Job.of(sample.parse([str(word) for word in words]))
    return origin(job, SimpleNamespace(weights=tiny.WEIGHTS))


def test_the_origin_is_content_and_not_where_a_file_lies(tmp_path):
    calibration, weights = tmp_path / "calibration.yaml", tmp_path / "weights.safetensors"
    shutil.copy(CONFIGS / "tiny_calibration.yaml", calibration)
    shutil.copy(tiny.WEIGHTS, weights)
    plain = origin_of()
    moved = origin_of("--calibration", calibration, f"engine.params.weights={weights}")
    assert moved["calibration"] == plain["calibration"] and moved["checkpoint"] == plain["checkpoint"]
    with weights.open("ab") as file:
        file.write(b"\0")
    with calibration.open("a") as file:
        file.write("# changed\n")
    changed = origin_of("--calibration", calibration, f"engine.params.weights={weights}")
    assert changed["calibration"] != plain["calibration"] and changed["checkpoint"] != plain["checkpoint"]
    assert changed["config"] == moved["config"] != origin_of("--calls", 5)["config"]


# Names.


def test_pictures_of_one_folder_never_share_a_name():
    files = [Path(name) for name in ("a.png", "a.jpg", "a-png.png", "A.webp", "b.png", "c.d.png", "c.d.jpg")]
    names = named_apart(files)
    assert sorted(names.values()) == sorted(files) and names["b"] == Path("b.png")
    assert len({name.casefold() for name in names}) == len(files)


# What goes wrong.


def test_a_picture_that_is_broken_halfway_is_named_and_all_others_are_made(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in "acd":
        picture(folder / f"{name}.png")
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(folder / "b.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:1000])  # its header is whole
    assert run("--input-path", folder, out=out) == 1
    shown = capsys.readouterr()
    assert {path.name[0] for path in out.glob("*_seed0.png")} == set("acd")
    assert "1 could not be made:" in shown.err and "b.png: not a picture that can be read" in shown.err.splitlines()[-1]
    assert "3 made, 0 there already, 1 could not be made" in shown.out


def test_a_full_disk_ends_the_command_with_one_line_and_keeps_what_is_whole(tmp_path, capsys, monkeypatch):
    folder, out, save = tmp_path / "in", tmp_path / "out", Image.Image.save
    for name in "ab":
        picture(folder / f"{name}.png")

    def filling(image, file, **options):
        if ".b_" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, file, **options)

    monkeypatch.setattr(Image.Image, "save", filling)
    assert run("--input-path", folder, out=out) == 2
    said = capsys.readouterr().err.rpartition("taylorseer-sample: ")[2]
    assert said.startswith(f"--out-dir {out}: b_x4") and "No space left on device" in said and said.count("\n") == 1
    assert len(read_folder(out)) == 1 and not list(out.glob("*.partial")) and not list(out.glob("b_*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["interval=3"], "did you mean --interval 3?"),
        (["numsteps=5"], "did you mean --num-steps 5?"),
        (["numsteps"], "did you mean --num-steps?"),
        (["--numsteps", "5"], "unrecognized arguments: --numsteps; did you mean --num-steps?"),
        (["sampler_confg.params.num_steps=3"], "did you mean sampler_config?"),
        (["engine.prams.weights=3"], "did you mean params?"),
        (["--input-path", "a.png", "b.png"], "b.png: --input-path takes one path, and has a.png"),
        (["b.png"], "b.png: give a path with --input-path"),
        (["--seeds", "1.5"], "--seeds 1.5: give whole numbers"),
        (["--seeds", "0", "b.png"], "--seeds 0 b.png: give whole numbers"),
        (["--tile", "20"], "argument --tile: 20: give 0, or from 64 pixels up"),
        (["--devices", "0"], "argument --devices: 0: give a whole number from 1"),
        (["--tile", "64", "--interval", "2", f"{GUIDER}.plan={{tolerance: 0.1}}"], "--tile 64: only the embedded model"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_mistake_is_one_line_that_names_the_flag_and_what_was_probably_meant(words, message, tmp_path, capsys):
    try:
        code = sample.main([*words, "--out-dir", str(tmp_path / "out")])
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr().err
    assert code == 2 and message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


# What is said once.


def test_what_reading_drops_is_said_once_for_all_pictures(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        Image.new("RGBA", (4, 4), (9, 9, 9, 9)).save(folder / f"{name}.png")
    Image.new("I;16", (4, 4), 300).save(folder / "deep.png")
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    picture(folder / "plain.png")
    assert run("--input-path", folder, out=tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert said.count("transparency is laid over white (a.png and 1 more)\n") == 1
    assert said.count("16 bits a channel become 8 (deep.png)\n") == 1
    assert said.count("of several frames or pages the first is taken (moving.webp)\n") == 1 and "plain.png)" not in said


def test_half_precision_on_a_cpu_gets_a_warning(tmp_path, capsys):
    path = picture(tmp_path / "b.png")
    assert run("--input-path", path, "--device", "cpu", "--dtype", "bfloat16", out=tmp_path / "out") == 0
    assert "--dtype bfloat16 on a CPU: up to ten times slower than float32" in capsys.readouterr().out


# What it will take.


def large(tmp_path, monkeypatch, free, *words):
    """What is said of a picture that counts as large, where ``free`` bytes are."""
    monkeypatch.setattr(estimate, "LARGE", 100)
    monkeypatch.setattr(estimate, "free_memory", lambda device: free)
    return run("--input-path", picture(tmp_path / "b.png", size=(12, 8)), *words, out=tmp_path / "out")


def test_memory_and_seconds_of_a_large_picture_are_said_before_it_is_begun(tmp_path, monkeypatch, capsys):
    assert large(tmp_path, monkeypatch, 1 << 40) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("b: 48x32 pixels to make, about 0.1 GiB and ")


@pytest.mark.parametrize(("words", "remedy"), [([], "shrink or cut it first"), (["--compare"], "leave out --compare"),
                                               (["--tile", "0"], "leave out --tile 0")])  # fmt: skip
def test_a_picture_that_cannot_fit_is_refused_with_the_remedy(words, remedy, tmp_path, monkeypatch, capsys):
    assert large(tmp_path, monkeypatch, 1000, *words) == 2
    said = capsys.readouterr().err
    assert "b: 48x32 pixels to make need about" in said and remedy in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_of_several_pictures_only_the_one_that_cannot_fit_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "LARGE", 1000)
    monkeypatch.setattr(estimate, "free_memory", lambda device: 1000)
    picture(tmp_path / "in" / "small.png")
    picture(tmp_path / "in" / "wide.png", size=(32, 4))
    assert run("--input-path", tmp_path / "in", out=tmp_path / "out") == 1
    assert [name.partition("_")[0] for name in read_folder(tmp_path / "out")] == ["small"]
    assert "wide_x4" in capsys.readouterr().err


def test_the_rate_counts_calls_and_branches_without_a_run_of_the_network(monkeypatch):
    for words, calls, branches in (([], 8, 1), (["--compare"], 8 + 39, 1), (["--scale", "2.5", "--calls", "5"], 5, 2)):
        job = Job.of(sample.parse(words))
        found = estimate.rate(job, job.engine(), "--compare" in words)
        assert (found.calls, found.branches) == (calls, branches) and 0 < found.seconds < 1


def test_a_limit_of_the_memory_is_found(monkeypatch):
    assert 1 << 20 < estimate.free_memory("cpu") < 1 << 50


def task(name, pixels):
    return Task(Picture(name, None, 1, pixels, None), 0, 1, pixels, 0, {}, name)


def test_progress_counts_what_other_processes_wrote_by_its_size(tmp_path):
    work = Work([task("a", 30), task("b", 10), task("c", 60)])
    failed = []
    with Progress(work.todo, tmp_path, failed) as progress:
        (tmp_path / "c.json").write_text("{}")
        (tmp_path / "other.json").write_text("{}")
        progress.look()
        assert (progress.bar.n, progress.bar.desc) == (60, "1 of 3 pictures")
        failed.append(("b", "broken"))
    assert (progress.bar.n, progress.bar.desc) == (70, "2 of 3 pictures")


# Names, and other mistakes of the disk.


def test_a_name_that_is_too_long_for_the_disk_is_cut_and_told_apart(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    names = ["a", "b" * 200 + "1", "b" * 200 + "2", "z"]
    for n, name in enumerate(names):
        picture(folder / f"{name}.png", (50 * n, 0, 0))
    assert run("--input-path", folder, "--compare", out=out) == 0
    first = made(out)
    assert len(read_folder(out)) == 4 and max(map(len, first)) <= 255
    assert run("--input-path", folder, "--compare", out=out) == 0 and made(out) == first


def test_a_disk_that_is_full_at_the_end_is_one_line(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)
    assert run("--input-path", picture(tmp_path / "b.png"), "--report", out=out) == 2
    said = capsys.readouterr().err.splitlines()
    assert "report.html" in said[-1] and said[-1].startswith("taylorseer-sample: ") and (out / f"{STEM}.png").exists()


def test_a_word_that_is_too_long_for_a_name_is_one_line(tmp_path, capsys):
    for words in (["w" * 300], ["--input-path", "w" * 300]):
        assert run(*words, out=tmp_path) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_a_result_was_made_from_does_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    def told(kind):
        config = {"engine": {"params": {"inference_type": kind}}, "sampler_config": {"params": {"guider_config": {"params": {}}}}}
        return origin(SimpleNamespace(config=OmegaConf.create(config), dtype="float32"), None)["config"]

    before = told("full"), told("ar2")
    (tmp_path / "full").mkdir()
    (tmp_path / "ar2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (told("full"), told("ar2")) == before and before[0] != before[1]


def test_two_commands_may_write_one_file(tmp_path):
    """Of two processes: their drafts are two files."""
    with replacing(tmp_path / "a.txt") as draft:
        assert str(os.getpid()) in draft.name
        draft.write_text("a")
    assert (tmp_path / "a.txt").read_text() == "a" and len(list(tmp_path.iterdir())) == 1


def test_the_grey_that_is_transparent_becomes_white(tmp_path):
    values = np.full((4, 4), 49152, np.uint16)
    values[0, 0] = 1000
    Image.fromarray(values).save(tmp_path / "grey.png", transparency=49152)
    found = read_picture(tmp_path / "grey.png")
    assert (found[0, 0] == round(1000 / 257)).all() and (found[1:] == 255).all()


def test_where_a_tolerance_decides_the_most_that_a_run_can_take_is_foretold(tmp_path):
    config = OmegaConf.load(CONFIGS / "tiny_taylorseer.yaml")
    config.sampler_config.params.guider_config.params = {"scale": 1, "plan": {"tolerance": 0.05}}
    OmegaConf.save(config, tmp_path / "own.yaml")
    job = Job.of(sample.parse(["--config", str(tmp_path / "own.yaml")]))
    assert estimate.rate(job, job.engine(), compare=False).calls == 39
