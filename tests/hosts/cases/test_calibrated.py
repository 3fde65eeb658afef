"""Calibration of the samplers that real hosts carry: fitted through the host's own calls, used through its own YAML."""

import pytest
import torch

from families import IMAGINAIRY, INFDIT, SGM
from runs import Mixture, build, error, guided_by, own_guider, run
from taylorseer_guider import calibrate

pytestmark = pytest.mark.host(IMAGINAIRY, SGM)
CALLS = 8
QUICK = {"calls": CALLS, "substeps": 2, "progress": False}


@pytest.mark.parametrize("refine", [0, 3])
@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
def test_a_hosts_sampler_is_calibrated_through_its_own_calls(family, name, refine, tmp_path):
    problem = Mixture(shape=(4,))
    given = [dict(zip(("x", "cond", "uc"), problem.inputs(100, seed=seed), strict=True)) for seed in (1, 2)]
    before = [run["x"].clone() for run in given]
    calibrate(build(family, name, guided_by(family)), problem, given, refine=refine, **QUICK).save(tmp_path / "c.yaml")
    assert all(map(torch.equal, before, [run["x"] for run in given]))  # which these hosts scale in place
    held_out = problem.inputs(200, seed=9)
    exact = run(build(family, "HeunEDMSampler", own_guider(family), num_steps=100), problem, *held_out)
    uncalibrated = build(family, name, guided_by(family, interval=3))
    plain = error(run(uncalibrated, problem, *held_out), exact)
    calibrated = build(family, name, guided_by(family, calibration=str(tmp_path / "c.yaml")))
    assert error(run(calibrated, problem, *held_out), exact) < plain / 2
    assert problem.calls == calibrated.guider.report.calls == CALLS


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
def test_a_calibration_serves_every_deterministic_sampler_and_number_of_steps(family, name, tmp_path):
    problem = Mixture(shape=(4,))
    given = [dict(zip(("x", "cond", "uc"), problem.inputs(100, seed=1), strict=True))]
    calibrate(build(family, name, guided_by(family)), problem, given, **QUICK).save(tmp_path / "c.yaml")
    held_out, calibrated = problem.inputs(20, seed=9), guided_by(family, calibration=str(tmp_path / "c.yaml"))
    own = run(build(family, name, calibrated), problem, *held_out)
    for other in ("EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler", "LinearMultistepSampler"):
        for steps in (20, 11, 30):
            assert error(run(build(family, other, calibrated, num_steps=steps), problem, *held_out), own) < 1e-4
            assert problem.calls == CALLS


def test_samplers_that_draw_noise_are_refused(family):
    problem = Mixture(shape=(4,))
    given = [dict(zip(("x", "cond", "uc"), problem.inputs(2), strict=True))]
    with pytest.raises(ValueError, match="EulerAncestralSampler cannot be calibrated"):
        calibrate(build(family, "EulerAncestralSampler", guided_by(family)), problem, given, **QUICK)
    with pytest.raises(ValueError, match="s_churn=8.0 adds noise"):
        calibrate(build(family, "HeunEDMSampler", guided_by(family), s_churn=8.0), problem, given, **QUICK)


@pytest.mark.host(INFDIT)
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("guided", [False, True], ids=["identity", "cfg"])
@pytest.mark.parametrize("refine", [0, 2])
def test_inf_dits_default_sampler_is_calibrated(guided, dtype, refine, tmp_path):
    from test_infdit import IDENTITY, Engine, build, ours, vanilla

    own = vanilla("NoDynamicThresholding") if guided else IDENTITY
    engine = Engine(dtype=dtype, batch=16)
    given = []
    for seed in (1, 2):
        engine.seed = seed
        engine.sample(lambda denoiser, **keywords: given.append(keywords))
    calibrate(build(ours(own)), engine, given, refine=refine, **QUICK).save(tmp_path / "c.yaml")
    sampler = build(ours(own, calibration=str(tmp_path / "c.yaml")))
    result = engine.sample(sampler)
    assert engine.calls == sampler.guider.report.calls == CALLS
    assert result.dtype == dtype and result.isfinite().all()
