"""scripts/sample.py with Inf-DiT's own network: the engine of configs/infdit_sr.yaml, small and with random weights."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from families import INFDIT
from taylorseer_guider.commands import calibrate, sample, trajectory
from taylorseer_guider.commands.configuration import merged_config
from taylorseer_guider.commands.job import Job
from taylorseer_guider.commands.results import read_folder
from taylorseer_guider.commands.sampling import sample as sampled
from taylorseer_guider.engines import UserError, infdit
from taylorseer_guider.engines.checkouts import PIP_NAMES
from taylorseer_guider.tiny.photographs import photograph

ROOT = Path(__file__).parents[3]
NEEDED = ("sat", "open_clip", "torchvision", "transformers", "requests", "wandb")  # the last two are sat's, which does not say so
pytestmark = pytest.mark.host(INFDIT)
FLAGS = {
    "image-size": 128, "image-block-size": 32, "num-layers": 2, "hidden-size": 64, "num-attention-heads": 4,
    "image-condition": "false", "vector-dim": 0,
}  # fmt: skip
SMALL = [f"engine.params.flags.{name}={value}" for name, value in FLAGS.items()]
GUIDER = "sampler_config.params.guider_config.params"
EXACT = ["--guider", "taylorseer", "--interval", "1", f"{GUIDER}.repeat_visits=compute"]
STEPS = ["--num-steps", "4"]  # 7 calls, 2 with forecasts
TYPES = {
    "full": [],
    "ar": ["engine.params.inference_type=ar"],
    "ar2": ["engine.params.inference_type=ar2", "engine.params.block_batch=2"],
}


@pytest.fixture(scope="module", autouse=True)
def packages():
    if lacking := [PIP_NAMES.get(name, name) for name in NEEDED if not find_spec(name)]:
        pytest.skip(f"Inf-DiT's network: pip install {' '.join(lacking)}")


def command(network, *words):
    config = ROOT / "configs" / "infdit_sr.yaml"
    return ["--config", config, "--infdit-root", INFDIT.root, "--network", network, *SMALL, *STEPS, *words]


def engine_and_samplers(network, *words):
    job = Job.of(sample.parse([str(word) for word in command(network, *words)]))
    return job.engine(), job.sampler


@pytest.fixture(scope="module")
def network(host, tmp_path_factory):
    """A checkpoint of the small network, with no parameter left at the zeros that the host begins with."""
    path = tmp_path_factory.mktemp("infdit") / "mp_rank_00_model_states.pt"
    with infdit.attention("cpu"):
        from dit.model import DiffusionEngine
    config = merged_config(sample.parse([str(word) for word in command(path)]))
    params = infdit.OmegaConf.to_container(config.engine.params, resolve=True)
    arguments = infdit.host_arguments(DiffusionEngine, params["flags"], torch.float32)
    net = infdit.built(DiffusionEngine, arguments, params["modules"], params["modeling"])
    torch.manual_seed(3)
    for parameter in net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        torch.nn.init.normal_(parameter, std=0.5 * fan_in**-0.5)
    torch.save({"module": net.state_dict()}, path)
    return path


def picture(height, width):
    crop = photograph("chelsea")[100 : 100 + height, 150 : 150 + width].copy()
    return torch.from_numpy(crop).permute(2, 0, 1)[None] / 127.5 - 1


def run(engine, sampler, small, seed=1):
    """The picture, and how often the network was called for it."""
    calls, forward = [], type(engine.net).precond_forward

    def counted(*args, **kwargs):
        calls.append(kwargs["sigmas"])
        return forward(engine.net, *args, **kwargs)

    engine.net.precond_forward = counted
    made = sampled(engine, sampler, small, seed, "test")
    assert made.calls == len(calls)
    return made.picture, len(calls)


@pytest.mark.parametrize("inference_type", TYPES)
@pytest.mark.parametrize("factor", [4, 2])
def test_computing_every_visit_is_the_hosts_own_guider_and_forecasting_saves_calls(network, inference_type, factor):
    words = [*TYPES[inference_type], f"engine.params.factor={factor}"]
    engine, forecasting = engine_and_samplers(network, *words, "--guider", "taylorseer")
    one = forecasting()
    plain, exact = (engine_and_samplers(network, *words, *more)[1]() for more in (["--guider", "identity"], EXACT))
    assert type(plain.guider).__module__ == "dit.sampling.guiders"
    for height, width in ((24, 33), (16, 16), (24, 33)):
        small = picture(height, width)
        full, calls = run(engine, plain, small)
        assert full.shape == (1, 3, height * factor, width * factor) and calls == 7
        assert full.std() > 0.05 and (full - engine.enlarged(small)).abs().mean() > 0.01
        again, calls = run(engine, exact, small)
        assert torch.equal(again, full) and calls == 7
        forecast, calls = run(engine, one, small)
        assert calls == one.guider.report.calls == 2 and one.guider.report.forecasts == 5
        assert forecast.isfinite().all() and not torch.equal(forecast, full)


def test_the_full_run_is_what_the_hosts_own_sample_makes(network):
    engine, make_sampler = engine_and_samplers(network, "--guider", "identity")
    small = picture(16, 24)  # whole blocks
    made, _ = run(engine, make_sampler(), small, seed=5)
    engine.net.sampler = make_sampler()
    torch.manual_seed(5)
    large = engine.enlarged(small)
    with torch.no_grad():
        theirs = engine.net.sample(large.shape, images=large, lr_imgs=small, device="cpu")
    assert torch.equal(made, theirs.clamp(-1, 1))


def test_ar2_answers_what_full_answers(network):
    """All but the host's slip: with ``block_batch`` above 1, the last column of squares does not see what is above it."""
    small, answers = picture(32, 48), {}  # 4 x 6 blocks
    for name, words in {"full": [], 1: TYPES["ar2"][:1], 2: TYPES["ar2"]}.items():
        engine, _ = engine_and_samplers(network, *words)
        given = engine.arguments(small, seed=0)
        x = given["cond"]["concat_lr_imgs"] + torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            answers[name] = engine.denoiser(x, torch.ones(1), given["rope_position_ids"], given["cond"], 0)
    assert torch.allclose(answers[1], answers["full"], atol=1e-5)
    apart = (answers[2] - answers["full"]).abs() > 1e-5
    assert apart.any() and not apart[..., :128].any() and not apart[..., :64, :].any()


def test_pictures_keep_their_border(network):
    engine, _ = engine_and_samplers(network)
    small = picture(9, 17)
    padded = engine.padded(small)
    assert padded.shape[-2:] == (16, 24) and torch.equal(padded[..., :9, :17], small)
    assert torch.equal(padded[..., 9:, :17], small[..., 8:, :].expand(-1, -1, 7, -1))
    blocks, _ = engine_and_samplers(network, *TYPES["ar2"])
    assert blocks.padded(small).shape[-2:] == (16, 32)


def test_attention_without_flash_attn_is_softmax_attention():
    q, k, v = (torch.randn(2, n, 3, 8) for n in (5, 7, 7))
    weights = torch.einsum("bihd,bjhd->bhij", q, k).div(8**0.5).softmax(-1)
    assert torch.allclose(infdit.flash_attn_func(q, k, v), torch.einsum("bhij,bjhd->bihd", weights, v), atol=1e-6)
    assert "flash_attn" not in sys.modules


def broken(network, tmp_path, change):
    weights = torch.load(network)["module"]
    change(weights)
    torch.save({"module": weights}, tmp_path / "broken.pt")
    return tmp_path / "broken.pt"


def one_more(weights):
    weights["surplus.weight"] = torch.zeros(1)


def another_shape(weights):
    weights["mixins.final_layer.linear.bias"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.pop("mixins.final_layer.linear.bias"), "1 keys missing (mixins.final_layer.linear.bias)"),
        (one_more, "1 keys unexpected (surplus.weight)"),
        (another_shape, "1 keys of another shape (mixins.final_layer.linear.bias (7,) for (48,))"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(network, tmp_path, change, said, capsys):
    path = broken(network, tmp_path, change)
    assert sample.main([str(word) for word in command(path, "--out-dir", tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error and error.startswith(f"taylorseer-sample: --network {path}") and "compare engine.params.flags" in error


MISTAKES = [
    (["--network", "/nowhere.pt"], "--network /nowhere.pt: no such file"),
    (["--network", __file__], "not a checkpoint that can be read"),
    (["--infdit-root", "/tmp"], "git clone https://github.com/THUDM/Inf-DiT"),
    (["--sgm-root", "/tmp"], "engines.InfDitEngine takes none"),
    (["--dtype", "bfloat16"], "on a CPU this model's layer norms need float32"),
    (["engine.params.inference_type=blocks"], "choose one of full, ar, ar2"),
    (["engine.params.inference_type=ar", "engine.params.block_batch=2"], "give 1 for ar"),
    (["engine.params.factor=3"], "2 or 4 times"),
    (["engine.params.flags.num-layers=many"], "argument --num-layers: invalid int value"),
    (["engine.params.flags.patch-size=null"], "argument --patch-size"),
    (["engine.params.flags.input-time=sometimes"], "argument --input-time: invalid choice"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[-40:])
def test_a_mistake_is_one_line(network, words, message, tmp_path, capsys):
    assert sample.main([str(word) for word in command(network, "--out-dir", tmp_path / "out", *words)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and error.startswith("taylorseer-sample: ")


def test_a_flag_that_the_host_does_not_know_is_refused(network):
    engine, _ = engine_and_samplers(network)
    with pytest.raises(UserError, match="unrecognized arguments: --layers=2"):
        infdit.host_arguments(type(engine.net), {"layers": 2}, torch.float32)


def test_the_image_encoders_weights_come_from_the_checkpoint(network, tmp_path, capsys):
    import open_clip

    tower = {"width": 16, "layers": 1}
    sizes = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "patch_size": 16, "head_width": 8, **tower},
             "text_cfg": {"context_length": 8, "vocab_size": 8, "heads": 2, **tower}}  # fmt: skip
    (tmp_path / "speck.json").write_text(json.dumps(sizes))
    open_clip.add_model_config(tmp_path)
    words = ["engine.params.flags.image-condition=true", "engine.params.flags.vector-dim=16"]
    words += [f"modules.image_encoder_config.params.{key}" for key in ("arch=speck", "image_size=32")]
    with pytest.raises(UserError, match="keys missing .*compare engine.params.flags"):
        engine_and_samplers(network, *words)

    def embedding(weights):
        more = {f"cond_embed.map_vector.{n}.{kind}": torch.randn(shape) for n in (0, 2)
                for kind, shape in (("weight", (64, 16 if n == 0 else 64)), ("bias", (64,)))}  # fmt: skip
        weights.update(more)

    without = broken(network, tmp_path, embedding)
    assert sample.main([str(word) for word in command(without, *words, "--out-dir", tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "image_encoder.model" in error and "modules.image_encoder_config.params.version" in error

    unused = ("ln_final", "transformer.")
    given = {key: value for key, value in open_clip.create_model("speck").state_dict().items() if not key.startswith(unused)}
    encoder = {f"image_encoder.model.{key}": value for key, value in given.items()}
    whole = broken(network, tmp_path, lambda weights: (embedding(weights), weights.update(encoder)))
    engine, make_sampler = engine_and_samplers(whole, *words)
    key = "model.visual.conv1.weight"
    assert torch.equal(engine.net.image_encoder.state_dict()[key], encoder[f"image_encoder.{key}"])
    made, calls = run(engine, make_sampler(), picture(8, 8))
    assert calls == 2 and made.isfinite().all()


def test_the_script_writes_pictures_and_figures(network, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, size in {"cat": (33, 24), "dog": (16, 16)}.items():
        Image.fromarray(photograph("chelsea")[100 : 100 + size[1], 150 : 150 + size[0]]).save(folder / f"{name}.png")
    words = command(network, "--guider", "taylorseer", "--input-path", folder, "--compare", "--out-dir", out)
    assert sample.main([str(word) for word in words]) == 0
    figures = read_folder(out)
    assert {key.split("_x4_")[0]: (value["calls"], value["full_calls"]) for key, value in figures.items()} == {
        "cat": (2, 7), "dog": (2, 7),
    }  # fmt: skip
    sizes = {path.name.split("_")[0]: Image.open(path).size for path in out.glob("*_seed0.png")}
    assert sizes == {"cat": (132, 96), "dog": (64, 64)}
    merged = next(out.glob("*.yaml"))
    again = ["--config", merged, "--input-path", folder / "dog.png", "--out-dir", tmp_path / "again"]
    assert sample.main([str(word) for word in again]) == 0
    one, two = (np.asarray(Image.open(next(where.glob("dog*_seed0.png")))) for where in (out, tmp_path / "again"))
    assert np.array_equal(one, two)


def test_the_script_calibrates_it(network, tmp_path, capsys):
    path = tmp_path / "calibration.yaml"
    words = command(network, "--out", path, "--calls", 2, 3, "--samples", 2, "--crop", 32, "--check", 1, "--check-crop", 32,
                    "--substeps", 2, "--refine", 1)  # fmt: skip
    assert calibrate.main([str(word) for word in words]) == 0
    assert path.is_file()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-3:]] == ["7", "2", "3"]


@pytest.mark.slow
def test_a_map_is_drawn_of_it(network, tmp_path):
    Image.fromarray(photograph("chelsea")[100:116, 150:166]).save(tmp_path / "cat.png")
    words = [*command(network, "--input-path", tmp_path / "cat.png", "--out-dir", tmp_path / "out"), "--num-steps", 8]
    assert trajectory.main([str(word) for word in words]) == 0
    read = json.loads((tmp_path / "out" / "cat_x4_concatsrheun8-s0_seed0_trajectory.json").read_text())
    assert read["calls"] == 15 and read["shape"] == [1, 3, 64, 64] and read["choice"]["calls"] in range(5, 9)
