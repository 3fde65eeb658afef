"""Every sampler that the sgm family shares, in each code base that has them as they are."""

import pytest
import torch

from families import COGVIEW, IMAGINAIRY, SGM, SGM_FAMILY, SUPIR
from runs import Mixture, build, compare, error, guided_by, own_guider, run

pytestmark = pytest.mark.host(IMAGINAIRY, SGM, COGVIEW, SUPIR)
CHURN = {"s_churn": 8.0}  # a factor of 1.4 on sigma, more than the distance to the node before
CASES = {  # sampler, its parameters, calls of the full run of 20 steps, by default and at interval 3
    "Euler": ("EulerEDMSampler", {}, (20, 10, 7)),
    "Euler, churn": ("EulerEDMSampler", CHURN, (20, 10, 7)),
    "Heun": ("HeunEDMSampler", {}, (39, 10, 7)),
    "Heun, churn": ("HeunEDMSampler", CHURN, (39, 19, 13)),
    "Euler ancestral": ("EulerAncestralSampler", {}, (20, 10, 7)),
    "DPM++ 2S ancestral": ("DPMPP2SAncestralSampler", {}, (39, 10, 7)),  # its midpoints are the next nodes
    "DPM++ 2M": ("DPMPP2MSampler", {}, (20, 10, 7)),
    "linear multistep": ("LinearMultistepSampler", {}, (20, 10, 7)),
}
DETERMINISTIC = ("Euler", "Heun", "DPM++ 2M", "linear multistep")  # the others walk another way once an output differs


@pytest.mark.host(*SGM_FAMILY)
def test_the_code_base_can_be_imported(host):
    assert host.guiders.VanillaCFG


@pytest.mark.parametrize("label", CASES)
def test_sampler(family, label):
    name, params, counts = CASES[label]
    problem = Mixture()
    compare(
        family,
        label,
        make=lambda guider: build(family, name, guider, **params),
        go=lambda sampler: (run(sampler, problem), problem.calls),
        counts=counts,
        bound=0.3 if label in DETERMINISTIC else 1.0,
    )


@pytest.mark.parametrize("label", CASES)
def test_later_calls_once_at_every_node_and_nowhere_else(family, label):
    name, params, counts = CASES[label]
    problem = Mixture()
    full = run(build(family, name, own_guider(family), **params), problem)
    sampler = build(family, name, guided_by(family, interval=1, repeat_visits="later", quantity="eps", max_order=2), **params)
    image = run(sampler, problem)
    assert problem.calls == sampler.guider.report.calls == 20
    if counts[0] == 20:
        assert torch.equal(image, full)
    elif label == "Heun":
        assert error(image, full) < 0.01


@pytest.mark.parametrize("label", DETERMINISTIC)
@pytest.mark.parametrize("options", [{"calls": 8}, {"interval": 3}])
def test_deterministic_samplers_end_at_one_picture(family, label, options):
    """Every step of theirs is landed on one path."""
    problem = Mixture()
    found, euler = (run(build(family, CASES[one][0], guided_by(family, **options)), problem) for one in (label, "Euler"))
    assert error(found, euler) < 1e-4
