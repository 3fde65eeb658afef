"""Every guider of an sgm code base wrapped by ours, and what host scripts ask of a guider."""

import pytest
import torch
from omegaconf import OmegaConf

from families import IMAGINAIRY, SGM
from problems import EXACT, OURS
from runs import Mixture, build, run
from taylorseer_guider.standalone.config import instantiate_from_config

pytestmark = pytest.mark.host(IMAGINAIRY, SGM)
FRAMES = {"num_frames": 6, "max_scale": 2.5}
GUIDERS = {
    "VanillaCFG": {"scale": 2.0},
    "IdentityGuider": {},
    "LinearPredictionGuider": FRAMES,
    "TrianglePredictionGuider": {**FRAMES, "period": [0.5, 1.0]},
    "TrapezoidPredictionGuider": {**FRAMES, "edge_perc": 0.34},
    "SpatiotemporalPredictionGuider": {**FRAMES, "num_views": 2},
}


@pytest.fixture
def guiders(host):
    return host.guiders


def wrapping(family, name, **settings):
    wrapped = {"target": f"{family.package}.guiders.{name}", "params": GUIDERS[name]}
    return {"target": OURS, "params": {"guider_config": wrapped, **settings}}


def sampled(family, guider):
    """A video of six frames, made with ``guider``."""
    problem = Mixture()
    sampler = build(family, "EulerEDMSampler", guider)
    return run(sampler, problem, *problem.inputs(batch=6)), problem, sampler


@pytest.mark.parametrize("name", GUIDERS)
def test_every_guider_can_be_wrapped(family, guiders, name):
    if not hasattr(guiders, name):
        pytest.skip(f"{family.name} has no {name}")
    full, _, _ = sampled(family, family.config("guiders", name, **GUIDERS[name]))
    exact, problem, _ = sampled(family, wrapping(family, name, **EXACT))
    assert torch.equal(exact, full) and problem.calls == 20
    result, problem, sampler = sampled(family, wrapping(family, name, interval=2))
    assert problem.calls == sampler.guider.report.calls == 10
    assert 0 < (result - full).norm() < 0.1 * full.norm()


@pytest.mark.parametrize("name", ["VanillaCFG", "IdentityGuider", "LinearPredictionGuider"])
def test_isinstance_answers_as_the_wrapped_guider_would(family, guiders, name):
    """Host scripts choose the batch of further inputs by ``isinstance(sampler.guider, (VanillaCFG, ...))``."""
    guider = build(family, "EulerEDMSampler", wrapping(family, name)).guider
    for other in ("VanillaCFG", "IdentityGuider", "LinearPredictionGuider", "Guider"):
        own = instantiate_from_config(family.config("guiders", name, **GUIDERS[name]))
        assert isinstance(guider, getattr(guiders, other)) == isinstance(own, getattr(guiders, other))


def test_a_subclass_counts_as_its_base(family, guiders):
    if not hasattr(guiders, "TrianglePredictionGuider"):
        pytest.skip(f"{family.name} has no subclass of a guider")
    guider = build(family, "EulerEDMSampler", wrapping(family, "TrianglePredictionGuider")).guider
    assert isinstance(guider, guiders.LinearPredictionGuider) and not isinstance(guider, guiders.VanillaCFG)


def test_attributes_that_scripts_read_and_write(family, guiders):
    guider = build(family, "EulerEDMSampler", wrapping(family, "LinearPredictionGuider")).guider
    assert guider.num_frames == 6 and torch.equal(guider.scale, torch.linspace(1, 2.5, 6)[None])
    guider.num_frames = 3
    guider.scale = guider.scale[:, :3]
    assert guider.num_frames == 3 and guider.scale.shape == (1, 3)
    plain = build(family, "EulerEDMSampler", {"target": OURS, "params": {"scale": 2.0}}).guider
    assert plain.scale == 2.0 and isinstance(plain, guiders.VanillaCFG)
    plain.scale = 3.0
    assert plain.scale == 3.0


def test_a_parameter_that_a_script_writes_into_the_config_reaches_the_wrapped_guider(family, guiders):
    """simple_video_sample.py sets ``guider_config.params.num_frames`` before it builds the model."""
    config = OmegaConf.create(wrapping(family, "LinearPredictionGuider"))
    config.params.num_frames = 4
    guider = instantiate_from_config(config)
    assert guider.num_frames == 4 and isinstance(guider, guiders.LinearPredictionGuider)


@pytest.mark.host(SGM)
def test_the_toy_training_config_samples_as_it_stands():
    """mnist_cond.yaml with the guider's target changed and nothing else; its 50 steps, on the machine that there is."""
    path = SGM.root / "configs" / "example_training" / "toy" / "mnist_cond.yaml"
    config = OmegaConf.load(path).model.params.sampler_config
    problem = Mixture()

    def sampled_again():
        sampler = instantiate_from_config(config)
        sampler.device = "cpu"
        return run(sampler, problem), sampler

    full, _ = sampled_again()
    config.params.guider_config.target = OURS
    result, sampler = sampled_again()
    assert problem.calls == sampler.guider.report.calls == 25
    assert 0 < (result - full).norm() < 0.05 * full.norm()
    config.params.guider_config.params.update(EXACT)
    assert torch.equal(sampled_again()[0], full)
