"""The guidance scale of a guider: who says it, who shows it, and what setting it later does."""

import copy
import pickle

import pytest
import torch

from problems import EXACT, IDENTITY, VANILLA, GaussianMixture, sample, sampler
from taylorseer_guider import TaylorSeerGuider, calibrate
from taylorseer_guider.standalone.guiders import IdentityGuider, VanillaCFG

WRAPPED = {"target": VANILLA, "params": {"scale": 2.5}}
COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda guider: pickle.loads(pickle.dumps(guider))}


class Hidden:
    """A guider that keeps its scale to itself, as CogView3's and SUPIR's do."""

    def __init__(self, scale, bend=0.0):
        self.at = lambda sigma: scale + bend * sigma.mean()

    prepare_inputs = VanillaCFG.prepare_inputs

    def __call__(self, denoised, sigma):
        uncond, cond = denoised.chunk(2)
        return uncond + self.at(sigma) * (cond - uncond)


class Preset(VanillaCFG):
    def __init__(self, scale=2.5):
        super().__init__(scale)


HIDDEN, PRESET = {"target": f"{__name__}.Hidden"}, {"target": f"{__name__}.Preset"}


# Who says it.


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 5.0),
        ({"scale": 2}, 2),
        ({"guider_config": {"target": VANILLA}}, 5.0),
        ({"guider_config": WRAPPED}, 2.5),
        ({"guider_config": WRAPPED, "scale": 4.0}, 4.0),
        ({"guider_config": PRESET}, 2.5),
        ({"guider_config": PRESET, "scale": 4.0}, 4.0),
        ({"guider_config": {**HIDDEN, "params": {"scale": 1.5}}}, 1.5),
        ({"guider_config": {**HIDDEN, "params": {"scale": 1.5}}, "scale": 4.0}, 4.0),
        ({"guider_config": HIDDEN}, 5.0),
        ({"guider_config": {"target": IDENTITY}}, 1.0),
    ],
    ids=str,
)
def test_it_combines_with_the_scale_that_it_shows(options, scale):
    guider, both = TaylorSeerGuider(**options), torch.tensor([[1.0], [3.0]])
    assert guider.scale == scale and type(guider.scale) in (int, float)
    combined = both if "IdentityGuider" in str(options) else torch.tensor([[1 + scale * 2.0]])
    assert torch.equal(guider(both, torch.ones(2)), combined)


def test_a_calibration_knows_the_scale_of_a_guider_that_hides_it(tmp_path):
    problem, file = GaussianMixture((4,)), tmp_path / "found.yaml"
    x, cond, uc = problem.inputs(8)
    built = sampler("EulerEDMSampler", guider_config={**HIDDEN, "params": {"scale": 1.5}}, num_steps=8)
    found = calibrate(built, problem, [{"x": x, "cond": cond, "uc": uc}], calls=3, substeps=1, refine=1, progress=False)
    assert found.fitted.scales == (1.5,)
    found.save(file)
    options = {"num_steps": 8, "calibration": str(file)}
    for serving in ({"guider_config": {**HIDDEN, "params": {"scale": 1.5}}}, {"guider_config": HIDDEN, "scale": 1.5}):
        assert sample("EulerEDMSampler", problem, inputs=(x, cond, uc), **options, **serving)[1].guider.report.calls == 3
    with pytest.raises(ValueError, match="scale is 7.0 here, it was fitted for 1.5"):
        sample("EulerEDMSampler", problem, inputs=(x, cond, uc), **options, guider_config={**HIDDEN, "params": {"scale": 7.0}})


def test_a_guider_that_varies_with_sigma_combines_at_the_sigma_that_was_asked():
    problem, combined = GaussianMixture(), []
    built = sampler("EulerEDMSampler", calls=6, guider_config={**HIDDEN, "params": {"scale": 2.0, "bend": 0.01}})
    inside = built.guider.at
    built.guider.at = lambda sigma: combined.append(float(sigma[0])) or inside(sigma)
    built(problem, *problem.inputs())
    calls = [visit for visit in built.guider.report.visits if visit.action == "call"]
    assert any(visit.asked is not None for visit in calls)
    assert combined == pytest.approx([visit.sigma if visit.asked is None else visit.asked for visit in calls])


# Set later.


@pytest.mark.parametrize(("built", "later"), [(5.0, 0), (5.0, 1), (0, 5.0), (1, 5.0)])
def test_a_scale_that_needs_another_class_is_refused(built, later):
    guider = TaylorSeerGuider(scale=built)
    with pytest.raises(ValueError, match=f"scale={later}") as raised:
        guider.scale = later
    assert "\n" not in str(raised.value)
    assert guider.scale == built and isinstance(guider, VanillaCFG if built == 5.0 else IdentityGuider)
    guider.scale = built


def test_a_guider_that_is_wrapped_by_name_takes_any_scale():
    problem, guider = GaussianMixture(), TaylorSeerGuider(guider_config=WRAPPED, **EXACT)
    built = sampler("EulerEDMSampler", VANILLA, scale=1.0)
    full = built(problem, *problem.inputs())
    guider.scale, built.guider = 1.0, guider
    assert torch.equal(built(problem, *problem.inputs()), full)


def test_a_hidden_scale_can_be_set_and_one_that_nobody_takes_is_refused():
    problem = GaussianMixture()
    built = sampler("EulerEDMSampler", guider_config={**HIDDEN, "params": {"scale": 2.0}}, **EXACT)
    built.guider.scale = 7.0
    full, _ = sample("EulerEDMSampler", problem, VANILLA, scale=7.0)
    assert built.guider.scale == 7.0 and torch.equal(built(problem, *problem.inputs()), full)
    guider = TaylorSeerGuider(guider_config={"target": IDENTITY})
    with pytest.raises(ValueError, match="scale=7.0: IdentityGuider takes none"):
        guider.scale = 7.0
    assert guider.scale == 1.0


@pytest.mark.parametrize("again", COPIES)
def test_a_scale_that_was_set_is_copied(again):
    guider = TaylorSeerGuider(scale=5.0)
    guider.scale = 2.0
    twin, both = COPIES[again](guider), torch.randn(4, 3)
    assert twin.scale == 2.0
    assert torch.equal(twin(both, torch.ones(2)), VanillaCFG(2.0)(both, torch.ones(2)))


class Listed(Hidden):
    """A guider whose scale is no number."""

    def __init__(self, scale=(1.0, 2.5)):
        super().__init__(scale[-1])


class Weighed(torch.nn.Module, Hidden):
    """A guider with weights that hides its scale."""

    def __init__(self, scale):
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.ones(2))
        Hidden.__init__(self, scale)

    __call__ = Hidden.__call__


def test_a_hidden_scale_that_is_no_number_is_no_fault():
    problem = GaussianMixture()
    for params in ({}, {"scale": [1.0, 3.0]}):
        image, built = sample("EulerEDMSampler", problem, guider_config={"target": f"{__name__}.Listed", "params": params})
        assert built.guider.scale == 5.0 and torch.isfinite(image).all() and built.guider.report.calls == 10


def test_the_weights_of_a_guider_stay_where_its_hidden_scale_is_set():
    guider = TaylorSeerGuider(guider_config={"target": f"{__name__}.Weighed", "params": {"scale": 2.0}})
    guider.weight.data.fill_(9.0)
    guider.eval()
    weight, guider.scale = guider.weight, 7.0
    assert guider.weight is weight and float(weight[0]) == 9.0 and not guider.training
    assert float(guider(torch.tensor([[1.0], [3.0]]), torch.ones(2))) == 15.0
