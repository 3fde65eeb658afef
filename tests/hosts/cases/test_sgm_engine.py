"""scripts/sample.py with Stability sgm's own models: the toy model of configs/sgm_mnist.yaml, and a small video model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save_file

from families import SGM
from taylorseer_guider.commands import sample, trajectory
from taylorseer_guider.commands.job import Job
from taylorseer_guider.commands.results import read_folder
from taylorseer_guider.commands.sampling import sample as sampled
from taylorseer_guider.engines import sgm as sgm_engine
from taylorseer_guider.standalone.config import instantiate_from_config
from taylorseer_guider.tiny.photographs import photograph

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.host(SGM)
EXACT = ["--guider", "taylorseer", "--interval", "1", "sampler_config.params.guider_config.params.repeat_visits=compute"]
FEW = ["sampler_config.params.guider_config.params.interval=2"]


def command(config, *words):
    return [str(word) for word in ("--config", ROOT / "configs" / config, "--sgm-root", SGM.root, *words)]


def engine_and_samplers(config, *words):
    job = Job.of(sample.parse(command(config, *words)))
    return job.engine(), job.sampler


def randomised(engine):
    """The engine's weights with none at the zeros that the host begins with."""
    torch.manual_seed(3)
    for parameter in engine.net.model.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        torch.nn.init.normal_(parameter, std=0.5 * fan_in**-0.5)
    return {key: value.clone().contiguous() for key, value in engine.net.state_dict().items()}


@pytest.fixture(scope="module")
def weights(host):
    return randomised(engine_and_samplers("sgm_mnist.yaml")[0])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_the_toy_model_is_sampled_from_a_checkpoint(weights, suffix, tmp_path):
    ckpt, out = tmp_path / f"toy{suffix}", tmp_path / "out"
    save_file(weights, ckpt) if suffix == ".safetensors" else torch.save({"state_dict": weights}, ckpt)
    words = ["--ckpt", ckpt, "--num-steps", 10, "--out-dir", out]
    assert sample.main(command("sgm_mnist.yaml", *words)) == 0
    ((key, figures),) = read_folder(out).items()
    assert (figures["calls"], figures["full_calls"], figures["forecasts"]) == (5, 10, 5)
    made, full = (np.asarray(Image.open(out / name)) for name in (key, key.replace(".png", "_full.png")))
    assert made.shape == full.shape == (56, 140, 3) and not np.array_equal(made, full)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["sgm_mnist.yaml", "sgm_svd.yaml"])
def test_computing_every_visit_is_the_hosts_own_guider(config, weights, video_model, tmp_path):
    words, own = ["--num-steps", 6], {"target": "VanillaCFG", "params": {"scale": 3.0}}
    if config == "sgm_svd.yaml":
        own = {"target": "LinearPredictionGuider", "params": {"max_scale": 2.5, "min_scale": 1.0, "num_frames": 4}}
        words += video_model
    else:
        save_file(weights, tmp_path / "toy.safetensors")
        words += ["--ckpt", tmp_path / "toy.safetensors"]
    engine, exact = engine_and_samplers(config, *words, *EXACT)
    plain = exact(use_cache=False)
    plain.guider = instantiate_from_config({**own, "target": f"sgm.modules.diffusionmodules.guiders.{own['target']}"})
    (name, small, _), *none = engine.inputs([("coffee", photograph("coffee"))])
    full = sampled(engine, plain, small, 1, name)
    again = sampled(engine, exact(), small, 1, name)
    assert torch.equal(full.picture, again.picture) and full.calls == again.calls == 6 and not none
    fewer = sampled(engine, engine_and_samplers(config, *words, *FEW)[1](), small, 1, name)
    assert fewer.calls == 3 and full.picture.std() > 0.05 and not torch.equal(fewer.picture, full.picture)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["sgm_mnist.yaml", "sgm_svd.yaml"])
def test_a_map_is_drawn_of_its_models(config, weights, video_model, tmp_path):
    save_file(weights, tmp_path / "toy.safetensors")
    words = video_model if config == "sgm_svd.yaml" else ["--ckpt", tmp_path / "toy.safetensors"]
    assert trajectory.main(command(config, *words, "--num-steps", 8, "--out-dir", tmp_path / "out")) == 0
    (path,) = (tmp_path / "out").glob("*_euler8*_seed0_trajectory.json")
    read = json.loads(path.read_text())
    assert read["calls"] == 8 and read["choice"]["calls"] in range(5, 9) and path.with_suffix(".png").is_file()


class Glance(torch.nn.Module):
    """Stands for the CLIP image embedder, whose weights are a download: 4 x 4 means of the picture."""

    def forward(self, image):
        return torch.nn.functional.adaptive_avg_pool2d(image, 4).flatten(1)


@pytest.fixture(scope="module")
def video_model(host, tmp_path_factory):
    """Words for the host's svd.yaml made small: 4 frames of 32 x 32, and random weights."""
    folder = tmp_path_factory.mktemp("svd")
    config = OmegaConf.load(SGM.root / "configs" / "inference" / "svd.yaml")
    params = config.model.params
    small = {"model_channels": 32, "channel_mult": [1, 2], "num_head_channels": 32, "context_dim": 48}
    params.network_config.params.update(**small, attention_resolutions=[], spatial_transformer_attn_type="softmax")
    embedders = {embedder.input_key: embedder.params for embedder in params.conditioner_config.params.emb_models}
    embedders["cond_frames_without_noise"].open_clip_embedding_config = {"target": f"{__name__}.Glance"}
    coders = [embedders["cond_frames"].encoder_config.params.ddconfig]
    coders += [params.first_stage_config.params[name].params for name in ("encoder_config", "decoder_config")]
    for coder in coders:
        coder.update(ch=32, num_res_blocks=1, attn_type="vanilla")
    OmegaConf.save(config, folder / "svd.yaml")
    small = [f"engine.params.model={folder / 'svd.yaml'}", "engine.params.shape=[4,4,4,4]", "engine.params.columns=2"]
    small.append("sampler_config.params.guider_config.params.num_frames=4")
    engine, _ = engine_and_samplers("sgm_svd.yaml", *small, "engine.params.ckpt=null")
    save_file(randomised(engine), folder / "svd.safetensors")
    return [*small, "--ckpt", folder / "svd.safetensors"]


def test_a_video_begins_with_a_picture(video_model, tmp_path):
    Image.fromarray(photograph("chelsea")[100:150, 100:190]).save(tmp_path / "cat.png")
    words = [*video_model, "--num-steps", 6, "--compare", "--input-path", tmp_path / "cat.png", "--out-dir", tmp_path / "out"]
    assert sample.main(command("sgm_svd.yaml", *words)) == 0
    ((key, figures),) = read_folder(tmp_path / "out").items()
    assert key.startswith("cat_euler6-taylorseer") and (figures["calls"], figures["full_calls"]) == (3, 6)
    assert Image.open(tmp_path / "out" / key).size == (64, 64)
    assert set(figures["pictures"]) == {"run", "full_run"} and len(figures["visit_errors"]) == 6


def test_a_picture_is_scaled_and_cut_to_the_frames(video_model):
    engine, _ = engine_and_samplers("sgm_svd.yaml", *video_model)
    image = torch.zeros(1, 3, 50, 90)
    image[..., 20:70] = 1  # the middle 50 columns
    assert engine.fitted(image).shape == (1, 3, 32, 32) and engine.fitted(image).mean() > 0.9
    assert engine.fitted(torch.zeros(1, 3, 7, 5)).shape == (1, 3, 32, 32)


def test_samples_stand_side_by_side():
    tiles = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 3)
    picture = sgm_engine.grid(tiles, 3)
    assert picture.shape == (1, 3, 4, 9) and picture[0, 2, ::2, ::3].tolist() == [[0, 1, 2], [3, 4, 0]]


def test_missing_keys_are_listed_and_others_left_aside(weights, tmp_path, capsys):
    fewer = {key: value for key, value in weights.items() if not key.startswith("conditioner.")}
    save_file({**fewer, "model_ema.decay": torch.zeros(1)}, tmp_path / "toy.safetensors")
    words = ["--ckpt", tmp_path / "toy.safetensors", "--out-dir", tmp_path / "out"]
    assert sample.main(command("sgm_mnist.yaml", *words)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "1 keys missing (conditioner.embedders.0.embedding.weight)" in error and "model_ema" not in error


def test_a_conditioner_without_its_weights_is_named(tmp_path, capsys):
    config = OmegaConf.load(SGM.root / "configs" / "example_training" / "toy" / "mnist_cond.yaml")
    embedder = {"input_key": "txt", "target": "sgm.modules.encoders.modules.FrozenCLIPEmbedder"}
    config.model.params.conditioner_config.params.emb_models = [embedder]
    OmegaConf.save(config, tmp_path / "clip.yaml")
    words = [f"engine.params.model={tmp_path / 'clip.yaml'}", "--out-dir", tmp_path / "out"]
    assert sample.main(command("sgm_mnist.yaml", *words)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the conditioner FrozenCLIPEmbedder (openai/clip-vit-large-patch14)" in error and "huggingface-cli" in error


MISTAKES = [
    (["--sgm-root", "/tmp"], "git clone https://github.com/Stability-AI/generative-models"),
    (["--ckpt", "/nowhere.safetensors"], "--ckpt /nowhere.safetensors: no such file"),
    (["--ckpt", __file__], "not a checkpoint that can be read"),
    (["--network", "/tmp"], "engines.SgmEngine takes none"),
    (["--input-path", __file__], "not conditioned on a picture"),
    (["engine.params.model=nowhere.yaml"], "name a model YAML of the checkout"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[-40:])
def test_a_mistake_is_one_line(words, message, tmp_path, capsys):
    assert sample.main(command("sgm_mnist.yaml", "--out-dir", tmp_path / "out", *words)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and error.startswith("taylorseer-sample: ")
