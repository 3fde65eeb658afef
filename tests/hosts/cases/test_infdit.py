"""Inf-DiT's own samplers from its shipped configuration, with the guider changed and nothing else."""

import pytest
import torch
from omegaconf import OmegaConf

from families import INFDIT
from problems import EXACT, OURS
from runs import PLANS, RESULTS, Mixture, drawn, error, run
from taylorseer_guider.standalone.config import instantiate_from_config

pytestmark = pytest.mark.host(INFDIT)
HEUN, DDIM = "ConcatSRHeunEDMSampler", "ConcatDDIMSampler"
COUNTS = {HEUN: (39, 10, 7), DDIM: (20, 10, 7)}
IDENTITY = {"target": "dit.sampling.guiders.IdentityGuider", "params": {}}
THRESHOLDS = ("NoDynamicThresholding", "StaticThresholding", "DynamicThresholding")


def vanilla(threshold):
    params = {"scale": 2.0, "dyn_thresh_config": {"target": f"dit.sampling.utils.{threshold}"}}
    return {"target": "dit.sampling.guiders.VanillaCFG", "params": params}


def ours(own, **settings):
    """Our guider in the place of the host's: identity mode, or the host's parameters handed on."""
    params = {"scale": 0} if own is IDENTITY else own["params"]
    return {"target": OURS, "params": {**params, **settings}}


def build(guider, name=HEUN):
    config = OmegaConf.load(INFDIT.root / "configs" / "text2image-sr.yaml").modeling.sampler_config
    assert config.target == f"dit.sampling.samplers.{HEUN}" and config.params.num_steps == 20
    config.target = f"dit.sampling.samplers.{name}"
    config.params.guider_config = guider
    sampler = instantiate_from_config(config)
    sampler.device = "cpu"
    return sampler


class Engine(Mixture):
    """The closed-form denoiser behind Inf-DiT's call, for images of one size and dtype."""

    def __init__(self, height=4, width=4, batch=2, dtype=torch.float32, seed=0):
        super().__init__(shape=(3, height, width))
        self.stored, self.batch, self.seed = dtype, batch, seed

    def __call__(self, images, sigmas, rope_position_ids, cond, sample_step):
        assert images.dtype == sigmas.dtype == self.stored and rope_position_ids.shape[0] == images.shape[0]
        assert isinstance(sample_step, int) and set(cond) == {"vector", "lr_imgs", "concat", "concat_lr_imgs"}
        return super().__call__(images.float(), sigmas.float(), {"vector": cond["vector"].float()}).to(images.dtype)

    def sample(self, sampler):
        """One image as ``DiffusionEngine.sample`` makes it: no x, everything in ``cond``."""
        x, lean, flat = self.inputs(self.batch, self.seed)
        images = {"lr_imgs": x[..., ::2, ::2], "concat": x, "concat_lr_imgs": x}
        cond, uc = [{key: value.to(self.stored) for key, value in {**side, **images}.items()} for side in (lean, flat)]
        self.calls = 0
        torch.manual_seed(self.seed)
        positions = torch.zeros(self.batch, 1, 2)
        return sampler(denoiser=self, x=None, cond=cond, uc=uc, num_steps=None, rope_position_ids=positions, init_noise=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("guider", ["IdentityGuider", *THRESHOLDS])
@pytest.mark.parametrize("name", [HEUN, DDIM])
def test_shipped_configuration(name, guider, dtype):
    own = IDENTITY if guider == "IdentityGuider" else vanilla(guider)
    engine, found = Engine(dtype=dtype), []
    with drawn() as noise:
        full = engine.sample(build(own, name))
    assert torch.equal(engine.sample(build(ours(own, **EXACT), name)), full) and engine.calls == COUNTS[name][0]
    for plan, expected in zip(PLANS.values(), COUNTS[name][1:], strict=True):
        sampler = build(ours(own, **plan), name)
        with drawn() as noise_now:
            result = engine.sample(sampler)
        assert engine.calls == expected == sampler.guider.report.calls
        assert len(noise) == len(noise_now) and all(map(torch.equal, noise, noise_now))
        assert result.dtype == dtype and torch.isfinite(result).all()
        found.append((engine.calls, error(result.float(), full.float())))
        assert found[-1][1] < 0.5
    label = f"{name.removeprefix('Concat').removesuffix('Sampler')}, {guider}, {str(dtype).removeprefix('torch.')}"
    RESULTS.append((INFDIT.name, label, COUNTS[name][0], found))


def test_later_halves_the_calls_of_the_shipped_sampler():
    engine = Engine()
    full = engine.sample(build(IDENTITY))
    later = ours(IDENTITY, interval=1, repeat_visits="later", quantity="eps", max_order=2)
    assert error(engine.sample(build(later)), full) < 0.01 and engine.calls == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_one_sampler_makes_images_of_any_size_and_batch(dtype):
    jobs = [(4, 4, 2), (6, 4, 2), (4, 4, 1), (4, 8, 3), (4, 4, 2)]
    engines = [Engine(*job, dtype=dtype, seed=i) for i, job in enumerate(jobs)]
    one = build(ours(IDENTITY, interval=3))
    for engine in engines:
        again = engine.sample(one)
        assert engine.calls == one.guider.report.calls == 7
        assert torch.equal(again, engine.sample(build(ours(IDENTITY, interval=3))))


def test_the_unconditional_branch_is_not_needed_for_identity():
    engine = Engine()
    sampler = build(ours(IDENTITY, interval=3))
    engine.sample(sampler)
    assert {x.shape[0] for x in engine.seen} == {2}


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
def test_its_plain_samplers_fail_with_its_own_guider_too(name):
    problem = Mixture()
    for guider in (IDENTITY, ours(IDENTITY)):
        sampler = build(guider, name)
        with pytest.raises(TypeError, match="possible_correction_step"):
            run(sampler, lambda x, *others: x, *problem.inputs())
