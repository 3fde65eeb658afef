"""The samplers that CogVideoX SAT, CogView3 and SUPIR have of their own, run from their real files."""

import logging
from dataclasses import replace
from functools import partial

import pytest
import torch

from families import COGVIDEO, COGVIEW, SUPIR
from problems import EXACT, OURS
from runs import Mixture, PreservingMixture, build, compare, guided_by, own_guider, run

ZERO_SNR = "ZeroSNRDDPMDiscretization"
LEGACY = "LegacyDDPMDiscretization"
RISING = (20, 10, 8)  # at interval 3 one more: pure noise has no sigma to be remembered at, so the second node is called
FALLING = (20, 10, 7)


@pytest.fixture
def supir(host, monkeypatch):
    monkeypatch.setattr(host.sampling, "get_sigmas_karras", karras)
    monkeypatch.setattr(host.sampling, "BrownianTreeNoiseSampler", FixedNoise)
    monkeypatch.setattr(host.sampling, "gaussian_weights", lambda w, h, n: torch.ones(n, 4, h, w))  # upstream: on cuda


def karras(n, sigma_min, sigma_max, device="cpu"):
    """k-diffusion's schedule (arXiv 2206.00364, eq. 5)."""
    ramp = torch.linspace(sigma_max ** (1 / 7), sigma_min ** (1 / 7), n) ** 7
    return torch.cat([ramp, torch.zeros(1)]).to(device)


class FixedNoise:
    """In place of k-diffusion's Brownian tree: noise that depends on the interval alone."""

    def __init__(self, x, sigma_min, sigma_max):
        self.shape = x.shape

    def __call__(self, sigma, next_sigma):
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(int(1e4 * sigma[0])))


def check(family, name, problem, counts, discretization, label="", arguments=(), bound=0.3, **params):
    """``compare`` for the sampler ``name``; ``arguments`` are x, cond, uc and keywords for its call."""
    *inputs, keywords = arguments or [{}]
    compare(
        family,
        f"{name.removesuffix('Sampler')}{label}",
        make=lambda guider: build(family, name, guider, family.config("discretizer", discretization), **params),
        go=lambda sampler: (run(sampler, problem, *inputs, **keywords), problem.calls),
        counts=counts,
        bound=bound,
    )


@pytest.mark.host(COGVIDEO)
@pytest.mark.parametrize("name", ["VideoDDIMSampler", "VPODEDPMPP2MSampler", "VPSDEDPMPP2MSampler"])
def test_cogvideo_sampler(name):
    check(COGVIDEO, name, PreservingMixture(), RISING, ZERO_SNR, bound=1.0 if "SDE" in name else 0.3)


@pytest.mark.host(COGVIDEO)
def test_cogvideo_image_to_video():
    """Its call begins with the image, which its own code hands on in ``cond``."""
    problem, name = PreservingMixture(), "Image2VideoDDIMSampler"

    def go(sampler):
        x, cond, uc = problem.inputs()
        problem.calls = 0
        return sampler(None, problem, x, cond, uc), problem.calls

    make = partial(build, COGVIDEO, name, discretization=COGVIDEO.config("discretizer", ZERO_SNR))
    compare(COGVIDEO, name.removesuffix("Sampler"), make, go, RISING)


@pytest.mark.host(COGVIDEO)
def test_cogvideo_dynamic_guidance(host):
    """DynamicCFG's scale changes from step to step: the branches are forecast, and combined with each step's own scale."""
    family = replace(COGVIDEO, guider={"target": "DynamicCFG", "params": {"exp": 5, "num_steps": 20}})
    check(family, "VideoDDIMSampler", PreservingMixture(), RISING, ZERO_SNR, ", DynamicCFG")
    sampler = build(family, "VideoDDIMSampler", guided_by(family), family.config("discretizer", ZERO_SNR))
    assert isinstance(sampler.guider, host.guiders.DynamicCFG)


@pytest.mark.host(COGVIDEO)
def test_cogvideo_scale_of_the_call():
    """``scale`` given to the sampler wins over the guider's; 1 goes past the guider, and nothing is forecast."""
    problem, found = PreservingMixture(), {}
    discretization = COGVIDEO.config("discretizer", ZERO_SNR)
    for scale in (1, 3.0):
        own = build(COGVIDEO, "VideoDDIMSampler", own_guider(COGVIDEO), discretization)
        ours = build(COGVIDEO, "VideoDDIMSampler", guided_by(COGVIDEO, interval=2), discretization)
        full, result = run(own, problem, scale=scale), run(ours, problem, scale=scale)
        found[scale] = problem.calls, float((result - full).norm() / full.norm())
    assert found[1] == (20, 0.0)
    assert found[3.0][0] == 11 and 0 < found[3.0][1] < 0.3


@pytest.mark.host(COGVIDEO)
@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler"])
def test_cogvideo_cannot_run_the_samplers_it_inherits(name):
    for guider in (own_guider(COGVIDEO), guided_by(COGVIDEO)):
        sampler = build(COGVIDEO, name, guider)
        with pytest.raises(TypeError, match="return_idx"):
            run(sampler, Mixture())


@pytest.mark.host(COGVIEW)
@pytest.mark.parametrize("threshold", [None, "RescaleThresholding", "DynamicThresholding"])
def test_cogview_zero_snr(threshold):
    params = {"interpret_mode": "Cosine Down", "scale_min": 1.5} if threshold == "DynamicThresholding" else {}
    config = COGVIEW.config("sampling_utils", threshold, **params)
    family = replace(COGVIEW, guider={"target": "VanillaCFG", "params": {"dyn_thresh_config": config} if threshold else {}})
    check(family, "ZeroSNRDDIMSampler", PreservingMixture(), RISING, ZERO_SNR, f", {threshold}" if threshold else "")


@pytest.mark.host(COGVIEW)
def test_cogview_single_branch(host):
    """``do_cfg: false`` goes with IdentityGuider there, which is our scale 0."""
    problem, discretization = PreservingMixture(), COGVIEW.config("discretizer", ZERO_SNR)
    guider = {"target": OURS, "params": {"scale": 0, "interval": 3}}
    sampler = build(COGVIEW, "ZeroSNRDDIMSampler", guider, discretization, do_cfg=False)
    assert torch.isfinite(run(sampler, problem)).all() and problem.calls == 8
    assert isinstance(sampler.guider, host.guiders.IdentityGuider)


@pytest.mark.host(COGVIEW)
def test_cogview_scale_1_keeps_the_branches_that_its_sampler_counts_on():
    problem, discretization = PreservingMixture(), COGVIEW.config("discretizer", ZERO_SNR)
    own = build(COGVIEW, "ZeroSNRDDIMSampler", COGVIEW.config("guiders", "VanillaCFG", scale=1), discretization)
    ours = build(COGVIEW, "ZeroSNRDDIMSampler", {"target": OURS, "params": {"scale": 1, "use_cache": False}}, discretization)
    assert torch.equal(run(own, problem), run(ours, problem))


@pytest.mark.host(COGVIEW)
def test_cogview_relay():
    """The relay enters its schedule half way, with an image in the place of x and the noise beside it."""
    problem = Mixture()
    x, cond, uc = problem.inputs()

    class Relay:
        """The relay sampler's call in the order that ``run`` uses."""

        def __init__(self, guider):
            discretization = COGVIEW.config("discretizer", LEGACY)
            self.sampler = build(COGVIEW, "LinearRelayEDMSampler", guider, discretization, num_steps=24, partial_num_steps=12)
            self.guider = self.sampler.guider

        def __call__(self, problem, x, cond, uc):
            return self.sampler(problem, 0.5 * problem.means[:2], x, cond, uc)

    compare(COGVIEW, "LinearRelayEDM", Relay, lambda sampler: (run(sampler, problem, x, cond, uc), problem.calls), (12, 6, 4))


def control(x, cond, uc):
    """Inputs as SUPIR has them: a control image is doubled with the mixture's conditioning."""
    return x, {**cond, "control": x.clone()}, {**uc, "control": x.clone()}


def supir_call(name, x):
    """The keywords of a SUPIR sampler's call."""
    return {"control_scale": 0.9, **({"x_center": torch.zeros_like(x)} if "EDM" in name else {})}


SUPIR_CASES = {  # batch, parameters; its DPM++ 2M scales noise by a sigma that broadcasts for one image alone
    "RestoreEDMSampler": (2, {}),
    "RestoreEDMSampler, churn": (2, {"s_churn": 5.0, "s_noise": 1.003}),
    "RestoreDPMPP2MSampler": (1, {}),
}


@pytest.mark.host(SUPIR)
@pytest.mark.parametrize("case", SUPIR_CASES)
def test_supir_sampler(supir, case):
    name, comma, label = case.partition(",")
    batch, params = SUPIR_CASES[case]
    problem = Mixture()
    inputs = control(*problem.inputs(batch=batch))
    check(SUPIR, name, problem, FALLING, LEGACY, comma + label, (*inputs, supir_call(name, inputs[0])), 1.0, **params)


@pytest.mark.host(SUPIR)
def test_supir_substeps(supir):
    """Four steps chosen from a thousand."""
    problem, runs = Mixture(), []
    inputs, discretization = control(*problem.inputs()), SUPIR.config("discretizer", LEGACY)
    for guider in (own_guider(SUPIR), guided_by(SUPIR, **EXACT), guided_by(SUPIR, interval=2)):
        sampler = build(SUPIR, "SubstepSampler", guider, discretization, num_steps=4)
        runs.append((run(sampler, problem, *inputs, **supir_call("SubstepSampler", inputs[0])), problem.calls))
    (full, calls), (exact, exact_calls), (forecast, fewer) = runs
    assert torch.equal(full, exact) and (calls, exact_calls, fewer) == (4, 4, 2)
    assert torch.isfinite(forecast).all()


@pytest.mark.host(SUPIR)
@pytest.mark.parametrize("name", ["TiledRestoreEDMSampler", "TiledRestoreDPMPP2MSampler"])
def test_supir_tiles_are_computed(supir, name, caplog):
    problem = Mixture(shape=(4, 8, 8))
    _, cond, uc = problem.inputs(batch=1)
    x = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(3))
    results = []
    with caplog.at_level(logging.WARNING):
        for guider in (own_guider(SUPIR), guided_by(SUPIR)):
            params = {"num_steps": 6, "tile_size": 8, "tile_stride": 4}
            sampler = build(SUPIR, name, guider, SUPIR.config("discretizer", LEGACY), **params)
            results.append(run(sampler, problem, *control(x, cond, uc), **supir_call(name, x)))
            assert problem.calls == 4 * 6
    assert torch.equal(*results)
    assert len([record for record in caplog.records if "tiles" in record.message]) == 1
