"""Learning from the first picture of real hosts' samplers, by YAML alone."""

import pytest
import torch

from families import IMAGINAIRY, INFDIT, SGM
from runs import Mixture, build, error, guided_by, own_guider, run

CALLS = 8
FULL = {"EulerEDMSampler": 20, "HeunEDMSampler": 39, "DPMPP2MSampler": 20}


@pytest.mark.host(IMAGINAIRY, SGM)
@pytest.mark.parametrize("name", FULL)
def test_a_hosts_sampler_learns_from_its_first_picture(family, name, tmp_path):
    problem, path = Mixture(shape=(4,), spread=0.8, components=3), str(tmp_path / "learnt.yaml")
    first = problem.inputs(20, seed=1)
    built = build(family, name, guided_by(family, calls=CALLS, learn=path), num_steps=20)
    own = run(build(family, name, own_guider(family), num_steps=20), problem, *first)
    assert torch.equal(run(built, problem, *first), own)
    assert built.guider.report.calls == FULL[name] < problem.calls <= 2 * FULL[name]
    inputs = problem.inputs(200, seed=9)
    exact = run(build(family, "HeunEDMSampler", own_guider(family), num_steps=100), problem, *inputs)
    alone = error(run(build(family, name, guided_by(family, calls=CALLS), num_steps=20), problem, *inputs), exact)
    assert error(run(built, problem, *inputs), exact) < alone and problem.calls == CALLS
    again = build(family, name, guided_by(family, calls=CALLS, learn=path), num_steps=20)
    assert error(run(again, problem, *inputs), exact) < alone and problem.calls == CALLS + 1


@pytest.mark.host(INFDIT)
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("guided", [False, True], ids=["identity", "cfg"])
def test_inf_dits_default_sampler_learns_from_its_first_picture(guided, dtype, tmp_path):
    from test_infdit import IDENTITY, Engine, build, ours, vanilla

    own = vanilla("NoDynamicThresholding") if guided else IDENTITY
    engine, path = Engine(dtype=dtype, batch=4), str(tmp_path / "learnt.yaml")
    full = engine.sample(build(own))
    calls, engine.calls = engine.calls, 0
    sampler = build(ours(own, calls=CALLS, learn=path))
    assert torch.equal(engine.sample(sampler), full)
    assert sampler.guider.report.calls == calls < engine.calls <= 2 * calls
    assert sampler.guider.report.learnt.reason is None
    for built, more in ((sampler, 0), (build(ours(own, calls=CALLS, learn=path)), 1)):
        engine.calls = 0
        result = engine.sample(built)
        assert built.guider.report.calls == CALLS and engine.calls == CALLS + more * built.guider.report.learnt.better
        assert result.dtype == dtype and result.isfinite().all()
