"""The ready YAMLs in configs/ build on the real hosts, and differ from what those ship by the guider alone."""

from pathlib import Path

import pytest
from families import INFDIT, SGM, loaded
from omegaconf import OmegaConf
from problems import OURS

from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider.standalone.config import instantiate_from_config

CONFIGS = Path(__file__).parents[2] / "configs"


def built(sampler_config):
    return instantiate_from_config(OmegaConf.merge(sampler_config, {"params": {"device": "cpu"}}))


@pytest.mark.parametrize(
    ("name", "inner", "steps"), [("sgm_sdxl", "VanillaCFG", 50), ("sgm_svd", "LinearPredictionGuider", 25)]
)
def test_sgm_configs_build_on_real_sgm(name, inner, steps):
    with loaded(SGM):
        sampler = built(OmegaConf.load(CONFIGS / f"{name}.yaml").sampler_config)
        assert type(sampler).__module__.startswith("sgm.") and sampler.num_steps == steps
        assert isinstance(sampler.guider, TaylorSeerGuider) and type(sampler.guider.inner).__name__ == inner


def test_the_svd_config_takes_the_frames_that_the_hosts_script_writes():
    with loaded(SGM):
        config = OmegaConf.load(CONFIGS / "sgm_svd.yaml").sampler_config
        config.params.guider_config.params.num_frames = 21
        assert built(config).guider.num_frames == 21


def test_the_inf_dit_config_is_the_shipped_one_but_for_the_guider():
    with loaded(INFDIT):
        ours = OmegaConf.load(CONFIGS / "infdit_sr.yaml")
        theirs = OmegaConf.load(INFDIT.root / "configs" / "text2image-sr.yaml")
        assert built(ours.modeling.sampler_config).guider.inner.__class__.__name__ == "IdentityGuider"
        assert ours.modeling.sampler_config.params.guider_config.target == OURS
        for config in (ours, theirs):
            del config.modeling.sampler_config.params.guider_config
        assert ours == OmegaConf.masked_copy(theirs, ["modules", "modeling"])
