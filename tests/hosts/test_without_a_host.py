"""What the configs and commands for real hosts say where no host is."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from taylorseer_guider.commands import sample

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ["sgm_svd", "sgm_sv3d"])
def test_video_configs_name_as_many_frames_as_the_guider(name):
    config = OmegaConf.load(CONFIGS / f"{name}.yaml")
    assert config.engine.params.shape[0] == config.sampler_config.params.guider_config.params.num_frames


@pytest.mark.parametrize("name", ["sgm_mnist", "sgm_sdxl", "sgm_svd", "sgm_sv3d", "infdit_sr"])
def test_without_a_checkout_the_script_says_how_to_get_one(name, capsys):
    assert sample.main(["--config", str(CONFIGS / f"{name}.yaml")]) == 2
    assert "git clone https://github.com/" in capsys.readouterr().err
