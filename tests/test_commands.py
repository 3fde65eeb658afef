"""What commands refuse, one line for every config, picture or number that is wrong; and what they make of the others."""

import os
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from taylorseer_guider.commands import figures, sample
from taylorseer_guider.commands.folder import planned
from taylorseer_guider.commands.job import Job
from taylorseer_guider.commands.results import read_folder
from taylorseer_guider.commands.sampling import opened
from taylorseer_guider.engines import pictures
from taylorseer_guider.engines.errors import UserError

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"


# Configs. Each is configs/tiny_taylorseer.yaml but for one change.


def config_with(key, value):
    """The text of that config with ``value`` at ``key``, or without ``key`` where the value is ``...``."""
    config = yaml.safe_load((ROOT / "configs" / "tiny_taylorseer.yaml").read_text())
    *path, last = key.split(".")
    node = config
    for part in path:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return yaml.safe_dump(config)


SAMPLER, GUIDER = "sampler_config.params", "sampler_config.params.guider_config"
WRONG = [
    *((key, value) for key in ("engine", "sampler_config") for value in (..., None, 3, "text", [], [1], {}, {"params": {}})),
    *(
        (f"{key}.target", value)
        for key in ("engine", "sampler_config", GUIDER)
        for value in (
            ...,
            None,
            3,
            [],
            {},
            "",
            "json",
            ".json",
            "json.",
            "json.decoder",
            "os.path.nothing",
            "no.such.Class",
            "a b.c",
            "..",
        )
    ),
    *((f"{key}.params", value) for key in ("engine", "sampler_config", GUIDER) for value in (3, "a", [1], [{"a": 1}], {1: 2})),
    *((f"{SAMPLER}.num_steps", value) for value in (..., None, "20", "many", 2.5, 0, -1, True, [20], {}, 10**9)),
    *((f"{SAMPLER}.guider_config", value) for value in (3, "text", [1], [], False, {"params": {"scale": 1}})),
    *((f"{SAMPLER}.discretization_config", value) for value in (..., None, 3, "text", [1], {})),
    *(
        (f"{SAMPLER}.discretization_config.params.{name}", value)
        for name in ("sigma_min", "sigma_max")
        for value in (None, "text", [1], {}, -1.0, float("nan"), float("inf"))
    ),
    *((f"{GUIDER}.params.scale", value) for value in (None, "high", [1], {}, True, float("nan"))),
    *(
        (f"{GUIDER}.params.{name}", value)
        for name in ("interval", "max_order", "calls", "quantity", "calibration", "guider_config")
        for value in ("text", [1], {"a": 1}, -1)
    ),
    *((f"{SAMPLER}.{name}", 3) for name in ("surplus", "discretization", "steps")),
    ("engine.target", "collections.OrderedDict"),
    ("engine.target", "taylorseer_guider.engines.SgmEngine"),
    ("engine.target", "builtins.dict"),
    ("sampler_config.target", "builtins.dict"),
    (f"{GUIDER}.target", "builtins.dict"),
    (f"{GUIDER}.target", "taylorseer_guider.standalone.sampling.HeunEDMSampler"),
    (f"{SAMPLER}.discretization_config.target", "builtins.dict"),
    ("engine.params.weights", [1]),
    ("engine.params.weights", {"a": 1}),
    ("engine.params.weights", 3),
    ("engine.params.weights", "/"),
    ("engine.params.surplus", 3),
    ("engine.params", {"weights": "???"}),
    ("engine", "${sampler_config}"),
    ("engine", "${engine}"),
    ("engine.params.weights", "${engine}"),
    ("engine.params.weights", "${nowhere}"),
    ("engine.params.weights", "${oc.env:NOWHERE_AT_ALL}"),
    ("engine.params.weights", "${unknown:3}"),
    ("engine.params.weights", "${"),
    (f"{SAMPLER}.num_steps", f"${{{SAMPLER}.num_steps}}"),
]

BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
CHAIN = "\n".join(["b0: [x, x]", *(f"b{n}: [{', '.join([f'${{b{n - 1}}}'] * 9)}]" for n in range(1, 12))])
UNREADABLE = {
    "empty": "",
    "a list": "[1, 2]",
    "text": "engine",
    "no YAML": "engine: {target: [",
    "an alias bomb": BOMB,
    "an interpolation bomb": f"{config_with('engine.params', {})}\n{CHAIN}",
    "an alias to itself": "engine: &a [*a]\nsampler_config: *a",
    "a code tag": "engine: !!python/object/apply:os.getcwd []\nsampler_config: {}",
    "a list as key": "? [engine]\n: 3",
    "no key": "engine: 3\nsampler_config: 3\n~: 3",
    "a key twice": "engine: {}\nengine: {}\nsampler_config: {}",
    "a date": "engine: 2001-01-01\nsampler_config: 3",
    "a long number": f"engine: {'9' * 5000}\nsampler_config: 3",
    "deeply nested": "engine: " + "[" * 5000,
    "a NUL": "engine: \0",
    "Latin-1": b"engine: \xe9",
    "too large": "# " + "x" * (1 << 21),
}


def refused(arguments, capsys):
    """What sample.py says of ``arguments``: one line, with exit code 2, in a few seconds."""
    started = time.perf_counter()
    try:
        code = sample.main([str(argument) for argument in arguments])
    except SystemExit as left:
        code = left.code
    shown = capsys.readouterr()
    assert code == 2, shown
    assert shown.err.count("\n") == 1 and shown.err.startswith("taylorseer-sample: ") and len(shown.err) < 800, shown.err
    assert time.perf_counter() - started < 10
    return shown.err


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda value: str(value)[-60:])
def test_a_config_with_one_wrong_value_is_one_line(key, value, tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text(config_with(key, value))
    refused(["--config", tmp_path / "wrong.yaml", "--out-dir", tmp_path / "out"], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_config_that_is_no_config_is_one_line(name, tmp_path, capsys):
    text = UNREADABLE[name]
    (tmp_path / "wrong.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(["--config", tmp_path / "wrong.yaml", "--out-dir", tmp_path / "out"], capsys)
    assert not (tmp_path / "out").exists()


WORDS = ["engine=3", "engine.params=[1]", "sampler_config.params=3", f"{SAMPLER}.num_steps=[", f"{SAMPLER}.num_steps=1000000000",
         f"{GUIDER}.params.scale=high", "engine.target.x=3", "=", "engine", "engine.params.weights=${engine",
         "engine.params.a.b=3", f"{GUIDER}.params.calls=&a [*a]"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_an_override_that_is_wrong_is_one_line(word, tmp_path, capsys):
    refused(["--out-dir", tmp_path / "out", word], capsys)


@pytest.mark.parametrize("empty", [None, {}])
def test_a_config_without_a_guider_gets_the_identity_guider(empty, tmp_path):
    (tmp_path / "plain.yaml").write_text(config_with(f"{SAMPLER}.guider_config", empty))
    for words in (["--config", str(tmp_path / "plain.yaml")], [f"{GUIDER}=null"]):
        job = Job.of(sample.parse(words))
        assert type(job.sampler().guider).__name__ == "IdentityGuider" and "heun20-identity-" in job.name


def test_a_configs_null_params_are_none(tmp_path):
    (tmp_path / "plain.yaml").write_text(config_with("engine.params", None))
    assert Job.of(sample.parse(["--config", str(tmp_path / "plain.yaml")])).engine().factor == 4


def test_a_run_that_fails_ends_with_one_line(tmp_path, capsys):
    abstract = "sampler_config.target=taylorseer_guider.standalone.sampling.BaseDiffusionSampler"
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    assert sample.main(["--input-path", str(tmp_path / "small.png"), "--out-dir", str(tmp_path / "out"), abstract]) == 2
    said = capsys.readouterr().err.rpartition("\r")[2].strip()
    assert said.startswith("taylorseer-sample: sampler_config: its run failed (NotImplementedError") and "\n" not in said


# A job.


def test_a_job_cannot_be_changed():
    args = sample.parse(["--num-steps", "3", f"{GUIDER}.params.interval=3"])
    before = dict(vars(args))
    job = Job.of(args)
    with pytest.raises(AttributeError):
        job.device = "cuda"
    with pytest.raises(Exception, match="read-only"):
        job.config.engine.target = "other"
    assert vars(args) == before and job.name.startswith("heun3-taylorseer-i3-s1-")


@pytest.mark.parametrize(("words", "size", "known"), [([], (100, 150), True), (["--input-path"], (6, 7), False),
                                                      (["--shrink-first", "--input-path"], (1, 1), True)])  # fmt: skip
def test_the_photograph_is_shrunk_and_a_picture_is_not_unless_asked(words, size, known, tmp_path):
    Image.new("RGB", (7, 6)).save(tmp_path / "own.png")
    given = [*words, *([str(tmp_path / "own.png")] if words else [])]
    args = sample.parse([*given, "--out-dir", str(tmp_path / "out")])  # `out` may hold the demo's picture
    engine = Job.of(args).engine()
    (task,) = planned(args, Job.of(args), engine).todo
    _, small, original = opened(task, engine, args.shrink_first)
    assert small.shape[-2:] == size and (original is not None) == known


def test_flags_are_overrides_of_the_config():
    flags = ["--num-steps", "3", "--scale", "2", "--interval", "3", "--max-order", "1"]
    words = [f"{SAMPLER}.num_steps=3", *(f"{GUIDER}.params.{word}" for word in ("scale=2.0", "interval=3", "max_order=1"))]
    assert Job.of(sample.parse(flags)).config == Job.of(sample.parse(words)).config


def test_the_full_run_at_scale_1_makes_39_calls_of_one_branch():
    batches = []

    def denoiser(x, sigma, cond):
        batches.append(len(x))
        return 0.5 * x

    for scale, branches in (("1", 1), ("2.5", 2)):
        batches.clear()
        sampler = Job.of(sample.parse(["--scale", scale])).full_sampler()
        sampler(denoiser, torch.randn(1, 3, 4, 4), {"concat": torch.zeros(1, 3, 4, 4)}, {"concat": torch.zeros(1, 3, 4, 4)})
        assert batches == [branches] * 39


# Limits.


def test_a_picture_that_would_become_too_large_is_refused_before_it_is_decoded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 64 * 64)
    Image.new("RGB", (17, 16)).save(tmp_path / "wide.png")
    whole = (tmp_path / "wide.png").read_bytes()
    (tmp_path / "wide.png").write_bytes(whole[:45])  # its size, and no pixel
    said = refused(["--input-path", tmp_path / "wide.png", "--out-dir", tmp_path / "out"], capsys)
    assert "17x16 pixels, to be made 4 times larger" in said and "cut or shrink the picture first" in said
    Image.new("RGB", (16, 16)).save(tmp_path / "just.png")
    assert pictures.read_picture(tmp_path / "just.png", 4).shape == (16, 16, 3)
    assert pictures.read_picture(tmp_path / "just.png").shape == (16, 16, 3)


def test_a_169_megapixel_picture_is_refused_in_one_line(tmp_path, capsys):
    Image.new("1", (13000, 13000)).save(tmp_path / "huge.png")
    for more in ([], ["--shrink-first"]):
        said = refused(["--input-path", tmp_path / "huge.png", "--out-dir", tmp_path / "out", *more], capsys)
        assert "13000x13000 pixels" in said and "64 Mpixel" in said


def test_a_picture_that_pillow_itself_refuses_is_too_large(tmp_path):
    Image.new("1", (20000, 20000)).save(tmp_path / "huge.png")
    with pytest.raises(UserError, match="over .* pixels, to be made 4 times larger; at most 64 Mpixel"):
        pictures.read_picture(tmp_path / "huge.png", 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("option", ["--input-path", "--config", "calibration"])
def test_a_pipe_is_refused_and_not_waited_for(option, tmp_path, capsys):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    words = [f"{GUIDER}.params.calibration={pipe}"] if option == "calibration" else [option, pipe]
    assert "regular file" in refused(["--out-dir", tmp_path / "out", *words], capsys)
    if option == "--input-path":
        assert "regular file" in refused(["--out-dir", tmp_path / "out", option, tmp_path], capsys)


def test_a_device_is_no_picture_and_no_config(tmp_path, capsys):
    for option in ("--input-path", "--config"):
        assert "regular file" in refused(["--out-dir", tmp_path / "out", option, os.devnull], capsys)


@pytest.mark.parametrize("steps", [0, -3, 10_001, 10**9])
def test_steps_are_limited(steps, tmp_path, capsys):
    said = refused(["--num-steps", steps, "--out-dir", tmp_path / "out"], capsys)
    assert f"--num-steps {steps}: give a whole number from 1 to 10000" in said


@pytest.mark.parametrize("seed", [2**64, -(2**70), "a=1"])
def test_seeds_are_limited(seed, tmp_path, capsys):
    assert "63 bits" in refused(["--seeds", seed, "--out-dir", tmp_path / "out"], capsys)


@pytest.mark.parametrize("content", ["[1]", "3", "{", "[" * 100_000])
def test_a_report_of_something_else_is_named_and_left_alone(content, tmp_path):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UserError, match="report.json: .*move it away"):
        read_folder(tmp_path)
    assert (tmp_path / "report.json").read_text() == content


# One PSNR.


def test_psnr_is_the_mean_over_pictures_and_not_that_of_the_pooled_error():
    reference = [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 6)]
    found = [reference[0] + 0.2, reference[1] + 0.02]  # 20 and 40 dB below a range of 2
    assert figures.psnr(found, reference) == pytest.approx(30, abs=1e-4)
    assert figures.psnr(torch.cat([found[0]] * 2), torch.cat([reference[0]] * 2)) == pytest.approx(20, abs=1e-4)
    assert figures.psnr(reference, reference) is None
    with pytest.raises(ValueError, match="shorter"):
        figures.psnr(found, reference[:1])


def test_figures_of_files_are_of_8_bits():
    picture = torch.zeros(1, 3, 16, 16)
    assert figures.fidelity(picture + 1e-4, picture)["psnr"] is None and figures.psnr(picture + 1e-4, picture) > 80
