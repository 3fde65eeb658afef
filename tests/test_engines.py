"""Engines have what commands ask of them; that of a host that is not here is built in front of stand-ins."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from taylorseer_guider.engines import UserError, build_engine, infdit, load_config
from taylorseer_guider.engines.config import ENGINE

CONFIGS = Path(__file__).parents[1] / "configs"


def config(name, **params):
    found = load_config(CONFIGS / name)
    found.engine.params.update(params)
    return found


@pytest.fixture
def host(monkeypatch):
    """Inf-DiT's classes and checkpoint, as far as the engine's constructor asks for them."""
    arguments = SimpleNamespace(sr_scale=4, image_block_size=128, cross_lr=False)
    stand_ins = {
        "imported": SimpleNamespace(DiffusionEngine=object), "host_arguments": arguments, "built": torch.nn.Identity(),
        "read_weights": {}, "load_weights": None,
    }  # fmt: skip
    for name, answer in stand_ins.items():
        monkeypatch.setattr(infdit, name, lambda *_, answer=answer, **__: answer)


@pytest.mark.parametrize("name", ["tiny_identity.yaml", "mixture.yaml"])
def test_what_a_command_asks_of_an_engine_is_there(name):
    engine = build_engine(config(name))
    assert all(hasattr(engine, each) for each in ENGINE) and callable(engine.denoiser)


def test_inf_dits_engine_is_built(host):
    engine = build_engine(config("infdit_sr.yaml", infdit_root="/nowhere", network="/nowhere.pt"))
    assert all(hasattr(engine, each) for each in ENGINE) and (engine.factor, engine.block) == (4, 128)


def test_an_engine_that_lacks_something_is_named_with_it():
    lacking = config("mixture.yaml")
    lacking.engine.target, lacking.engine.params = "types.SimpleNamespace", {"denoiser": None}
    with pytest.raises(UserError, match="engine: types.SimpleNamespace has no arguments, factor, inputs"):
        build_engine(lacking)


@pytest.mark.parametrize("params", [{"count": 0}, {"spread": -1}], ids=str)
def test_a_mixture_has_samples_and_a_spread(params):
    with pytest.raises(UserError, match="engine.params: count=.*give one sample or more, and a spread above 0"):
        build_engine(config("mixture.yaml", **params))


def test_a_misspelt_entry_is_named_and_others_stay(tmp_path):
    text = (CONFIGS / "mixture.yaml").read_text()
    (tmp_path / "more.yaml").write_text(text.replace("sampler_config:", "sampler_config:\n  note: the host's own", 1))
    assert load_config(tmp_path / "more.yaml").sampler_config.note == "the host's own"
    (tmp_path / "misspelt.yaml").write_text(text.replace("params:", "parms:", 1))
    with pytest.raises(UserError, match=r"parms: unknown entry; a part of a config has `target` and `params`"):
        load_config(tmp_path / "misspelt.yaml")
