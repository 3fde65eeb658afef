"""The ready YAMLs in configs/ build on the real hosts, and differ from what those ship by the guider alone."""

import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from families import INFDIT, SGM
from problems import OURS
from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider.standalone.config import instantiate_from_config

CONFIGS = Path(__file__).parents[3] / "configs"


def built(sampler_config):
    return instantiate_from_config(OmegaConf.merge(sampler_config, {"params": {"device": "cpu"}}))


@pytest.mark.host(SGM)
@pytest.mark.parametrize(
    ("name", "inner", "steps"),
    [
        ("sgm_mnist", "VanillaCFG", 50),
        ("sgm_sdxl", "VanillaCFG", 50),
        ("sgm_svd", "LinearPredictionGuider", 25),
        ("sgm_sv3d", "TrianglePredictionGuider", 50),
    ],
)
def test_sgm_configs_build_on_real_sgm(name, inner, steps):
    sampler = built(OmegaConf.load(CONFIGS / f"{name}.yaml").sampler_config)
    assert type(sampler).__module__.startswith("sgm.") and sampler.num_steps == steps
    assert isinstance(sampler.guider, TaylorSeerGuider) and sampler.guider.wrapped.__name__ == inner


@pytest.mark.host(SGM)
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("sgm_mnist", "configs/example_training/toy/mnist_cond.yaml"),
        ("sgm_svd", "scripts/sampling/configs/svd.yaml"),
        ("sgm_sv3d", "scripts/sampling/configs/sv3d_u.yaml"),
    ],
)
def test_sgm_configs_are_the_hosts_own_but_for_the_guider(name, theirs):
    ours = OmegaConf.load(CONFIGS / f"{name}.yaml").sampler_config
    theirs = OmegaConf.load(SGM.root / theirs).model.params.sampler_config
    guider, own = ours.params.pop("guider_config"), theirs.params.pop("guider_config")
    if "num_steps" not in theirs.params:  # the host's script writes them there
        del ours.params.num_steps
    assert ours == theirs and guider.target == OURS
    wrapped = guider.params.get("guider_config", {"target": own.target, "params": {"scale": guider.params.get("scale")}})
    assert wrapped == own


@pytest.mark.host(SGM)
def test_the_svd_config_takes_the_frames_that_the_hosts_script_writes():
    config = OmegaConf.load(CONFIGS / "sgm_svd.yaml").sampler_config
    config.params.guider_config.params.num_frames = 21
    assert built(config).guider.num_frames == 21


@pytest.mark.host(INFDIT)
def test_the_inf_dit_config_is_the_shipped_one_but_for_the_guider():
    ours = OmegaConf.load(CONFIGS / "infdit_sr.yaml")
    theirs = OmegaConf.load(INFDIT.root / "configs" / "text2image-sr.yaml")
    assert built(ours.modeling.sampler_config).guider.wrapped.__name__ == "IdentityGuider"
    assert ours.modeling.sampler_config.params.guider_config.target == OURS
    ours, theirs = (OmegaConf.masked_copy(config, ["modules", "modeling"]) for config in (ours, theirs))
    for config in (ours, theirs):
        del config.modeling.sampler_config.params.guider_config
    assert ours == theirs


@pytest.mark.host(INFDIT)
def test_the_inf_dit_config_names_the_flags_of_the_hosts_launch_script():
    flags = OmegaConf.load(CONFIGS / "infdit_sr.yaml").engine.params.flags
    script = shlex.split((INFDIT.root / "generate_sr_big_cli.sh").read_text().partition('options="')[2].partition('"')[0])
    theirs = {}
    for word in filter(str.strip, script):
        if word.startswith("--"):
            name, theirs[word[2:]] = word[2:], True
        else:
            theirs[name] = word
    assert all(flags[name] == type(flags[name])(theirs[name]) for name in set(flags) & set(theirs))
    assert set(flags) - set(theirs) == {"image-block-size", "sr-scale"}  # the host's defaults
