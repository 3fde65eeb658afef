"""The guider as an honest subclass of the guider that it wraps: what a host, an editor and a copy see of it."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
import types

import pytest
import torch

import taylorseer_guider
from problems import EXACT, IDENTITY, OURS, SAMPLERS, VANILLA, GaussianMixture, sample, sampler
from taylorseer_guider import TaylorSeerGuider, shim
from taylorseer_guider.hosts import HOSTS
from taylorseer_guider.standalone.guiders import IdentityGuider, VanillaCFG
from taylorseer_guider.standalone.sampling import DPMPP2MSampler, EulerEDMSampler, HeunEDMSampler

NINE = (
    "scale", "use_cache", "interval", "max_order", "step_threshold", "calls", "calibration", "repeat_visits", "guider_config",
)  # fmt: skip
GROUPS = ("plan", "forecast", "history")
FLAT = {  # yesterday's name and value: today's place
    "activate": ([0, 3, 9], ("plan", "nodes")),
    "warmup": (2, ("plan", "warmup")),
    "tail": (1, ("plan", "tail")),
    "tolerance": (0.1, ("plan", "tolerance")),
    "max_skip": (2, ("plan", "max_skip")),
    "quantity": ("eps", ("forecast", "quantity")),
    "coordinate": ("log_sigma", ("forecast", "coordinate")),
    "basis": ("taylor", ("forecast", "basis")),
    "history_dtype": ("bfloat16", ("history", "dtype")),
    "history_device": ("cpu", ("history", "device")),
}
OFF = [{"use_cache": False}, {"use_cache": False, "interval": 4}, EXACT]
WRAPPED = {"target": VANILLA, "params": {"scale": 2.5}}


class Mine(TaylorSeerGuider):
    """A user's own guider, with an option and a method of its own."""

    def __init__(self, scale=3.0, *, label="mine", **options):
        super().__init__(scale, **options)
        self.label, self.combined = label, 0

    def __call__(self, denoised, sigma, *args, **kwargs):
        self.combined += 1
        return super().__call__(denoised, sigma, *args, **kwargs)


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda guider: pickle.loads(pickle.dumps(guider))}


def one_line(raised):
    assert "\n" not in str(raised.value)


# Whose class it is, and that it is the host's guider where nothing is forecast.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("options", OFF, ids=str)
@pytest.mark.parametrize("name", SAMPLERS)
def test_at_scale_1_the_off_modes_are_vanilla_cfg_bit_for_bit(name, options, dtype):
    problem = GaussianMixture(dtype=dtype)
    full, _ = sample(name, problem, VANILLA, scale=1.0)
    image, built = sample(name, problem, scale=1.0, **options)
    assert torch.equal(image, full)
    assert isinstance(built.guider, VanillaCFG)


@pytest.mark.parametrize("options", [{"scale": 3.0}, {"scale": 0}, {"guider_config": WRAPPED}], ids=str)
@pytest.mark.parametrize("cls", [TaylorSeerGuider, Mine])
def test_its_class_inherits_from_the_hosts_and_nothing_is_overridden_to_look_like_it(cls, options):
    guider, host = cls(**options), IdentityGuider if options.get("scale") == 0 else VanillaCFG
    ancestors = type(guider).__mro__
    assert host in ancestors and cls in ancestors and isinstance(guider, host)
    ours = [c for c in ancestors if c.__module__.startswith("taylorseer_guider") and "standalone" not in c.__module__]
    assert ours
    for name in ("__getattr__", "__getattribute__", "__setattr__", "__class__"):
        assert not any(name in vars(c) for c in ours), name


def test_the_options_are_written_out_in_the_constructor():
    shown = inspect.signature(TaylorSeerGuider.__init__).parameters
    assert [name for name in (*NINE, *GROUPS) if name not in shown] == []
    assert shown["scale"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and shown["scale"].default == 5.0
    assert not set(FLAT) & set(shown)
    assert set(NINE + GROUPS) <= set(inspect.signature(TaylorSeerGuider).parameters)


# Options in groups, and the flat names that they had.


@pytest.mark.parametrize("flat", FLAT)
def test_a_flat_name_of_yesterday_is_the_same_as_its_group(flat):
    value, (group, name) = FLAT[flat]
    grouped = TaylorSeerGuider(**{group: {name: value}})
    assert TaylorSeerGuider(**{flat: value}).settings == grouped.settings != TaylorSeerGuider().settings


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("value", [{"wormup": 2}, 3, "few"], ids=str)
def test_a_group_that_holds_something_else_is_one_clear_line(group, value):
    with pytest.raises(ValueError, match=rf"{group}(=3|='few'|.*wormup)") as raised:
        TaylorSeerGuider(**{group: value})
    one_line(raised)


@pytest.mark.slow
def test_each_flat_name_says_once_in_a_process_where_it_has_gone():
    code = """
import logging
logging.basicConfig()
from taylorseer_guider import TaylorSeerGuider
for warmup in (1, 2, 3):
    TaylorSeerGuider(warmup=warmup)
TaylorSeerGuider(quantity="eps", plan={"tail": 1})
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr.splitlines()
    assert len([line for line in shown if "warmup" in line and "plan" in line]) == 1
    assert len([line for line in shown if "quantity" in line and "forecast" in line]) == 1
    assert not any("tail" in line for line in shown)


@pytest.mark.parametrize("target", [OURS, f"{__name__}.Mine"])
def test_our_guider_does_not_wrap_itself(target):
    with pytest.raises(ValueError, match="guider_config.*wrap") as raised:
        TaylorSeerGuider(guider_config={"target": target, "params": {}})
    one_line(raised)


# Copies.


@pytest.mark.parametrize("again", COPIES)
@pytest.mark.parametrize("options", [{"scale": 2.5, "interval": 4}, {"scale": 0}, {"guider_config": WRAPPED}], ids=str)
@pytest.mark.parametrize("cls", [TaylorSeerGuider, Mine])
def test_a_copy_keeps_class_settings_and_attributes_and_no_run(cls, options, again):
    problem, built = GaussianMixture(), sampler("EulerEDMSampler")
    built.guider = cls(**options)
    built.guider.num_frames = 14
    image = built(problem, *problem.inputs())
    original, built.guider = built.guider, COPIES[again](built.guider)
    twin = built.guider
    assert type(twin) is type(original) and isinstance(twin, cls)
    assert isinstance(twin, VanillaCFG) == isinstance(original, VanillaCFG)
    assert (twin.settings, twin.num_frames) == (original.settings, 14)
    assert getattr(twin, "label", None) == getattr(original, "label", None)
    assert twin.report is None or twin.report is not original.report
    assert torch.equal(built(problem, *problem.inputs()), image)
    assert getattr(twin, "combined", 40) == 40


@pytest.mark.parametrize("again", ["copy", "deepcopy"])
def test_a_copy_in_mid_run_starts_without_one(again):
    problem, built = GaussianMixture(), sampler("HeunEDMSampler", scale=2.5)
    alone, _ = sample("HeunEDMSampler", problem, scale=2.5)
    twins = []

    def copying(x, sigma, cond):
        twins.append(COPIES[again](built.guider))
        return problem(x, sigma, cond)

    assert torch.equal(built(copying, *problem.inputs()), alone)
    built.guider = twins[3]
    assert torch.equal(built(problem, *problem.inputs()), alone)


# Which host is meant.


@pytest.fixture
def load(monkeypatch):
    """Pretend that a host of that name is loaded."""

    class Base:
        pass

    def pretend(name):
        host = next(host for host in HOSTS if host.name == name)
        cls = type("VanillaCFG", (VanillaCFG,), {"__module__": host.guiders})
        for path, content in ((host.sampling, {host.base: Base}), (host.guiders, {"VanillaCFG": cls})):
            module = types.ModuleType(path)
            module.__dict__.update(content)
            for end in range(1, path.count(".") + 1):
                package = ".".join(path.split(".")[:end])
                monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
            monkeypatch.setitem(sys.modules, path, module)
        return cls

    for host in HOSTS:
        if host.name != "standalone":
            monkeypatch.delitem(sys.modules, host.sampling, raising=False)
    yield pretend
    shim.uninstall()
    monkeypatch.undo()
    shim.install()


def test_with_several_hosts_loaded_a_scale_alone_does_not_say_which_is_meant(load):
    load("sgm"), load("Inf-DiT")
    with pytest.raises(ValueError, match="guider_config") as raised:
        TaylorSeerGuider(scale=4.0)
    one_line(raised)
    assert "sgm" in str(raised.value) and "Inf-DiT" in str(raised.value)
    assert isinstance(TaylorSeerGuider(guider_config=WRAPPED), VanillaCFG)


def test_one_host_that_is_loaded_beside_the_standalone_one_is_meant_even_in_a_standalone_sampler(load):
    theirs = load("sgm")
    assert isinstance(TaylorSeerGuider(scale=4.0), theirs)
    assert isinstance(sampler("EulerEDMSampler", scale=4.0).guider, theirs)


@pytest.mark.parametrize("base", [EulerEDMSampler, HeunEDMSampler, DPMPP2MSampler])
def test_a_subclass_of_a_sampler_that_adds_no_noise_is_one(base, monkeypatch):
    problem, mine = GaussianMixture(), type("OfMyOwn", (base,), {})
    monkeypatch.setattr(sys.modules[base.__module__], "OfMyOwn", mine, raising=False)
    alone, _ = sample(base.__name__, problem, interval=3)
    assert torch.equal(sample("OfMyOwn", problem, interval=3)[0], alone)


def test_a_calibration_serves_a_subclass_of_the_sampler_that_it_was_fitted_on(monkeypatch):
    path = taylorseer_guider.__path__[0] + "/../configs/tiny_calibration.yaml"
    monkeypatch.setattr(sys.modules[HeunEDMSampler.__module__], "OfMyOwn", type("OfMyOwn", (HeunEDMSampler,), {}), raising=False)
    options = {"scale": 1.0, "calibration": path, "calls": 8}
    problem = GaussianMixture(dtype=torch.float32)
    image, built = sample("OfMyOwn", problem, **options)
    assert built.guider.report.calls == 8
    assert torch.equal(image, sample("HeunEDMSampler", problem, **options)[0])


# Guiders that are not written as the hosts' are.


class Doubled(VanillaCFG):
    """It computes its scale."""

    def __init__(self, half=1.25):
        self.half = half

    @property
    def scale(self):
        return 2 * self.half


class OfItsClass(VanillaCFG):
    scale = 2.5

    def __init__(self):
        pass


class HandedOn(VanillaCFG):
    def __init__(self, label="none", **kwargs):
        super().__init__(**kwargs)
        self.label = label


@dataclasses.dataclass
class Data:
    scale: float = 2.5
    __call__, prepare_inputs = VanillaCFG.__call__, VanillaCFG.prepare_inputs


class Layer(torch.nn.Module):
    def __init__(self, scale=2.5):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    prepare_inputs, forward = VanillaCFG.prepare_inputs, VanillaCFG.__call__


class Interval(VanillaCFG):
    """Guidance within an interval of noise."""

    def __init__(self, scale=2.5):
        super().__init__(scale)
        self.interval = 0.1, 10.0


class Reporting(VanillaCFG):
    def report(self):
        return []


class Slotted:
    __slots__ = ("scale",)


@pytest.mark.parametrize("options", OFF, ids=str)
@pytest.mark.parametrize("cls", [Doubled, OfItsClass, HandedOn, Data, Layer])
def test_a_guider_that_has_its_scale_otherwise_keeps_it(cls, options):
    problem, scale = GaussianMixture(), {} if cls in (Doubled, OfItsClass) else {"scale": 2.5}
    ours = sampler("HeunEDMSampler", guider_config={"target": f"{__name__}.{cls.__name__}"}, **scale, **options)
    host = sampler("HeunEDMSampler", VANILLA, scale=2.5)
    assert ours.guider.scale == 2.5 and torch.equal(ours(problem, *problem.inputs()), host(problem, *problem.inputs()))


def test_the_scale_of_a_layer_can_be_set():
    guider = TaylorSeerGuider(guider_config={"target": f"{__name__}.Layer"})
    guider.scale = torch.tensor(7.0)
    assert guider.scale == 7 == guider.state_dict()["scale"]


def test_two_guiders_are_never_equal_and_a_visit_without_a_run_computes_where_a_dataclass_is_wrapped():
    one, other = (TaylorSeerGuider(guider_config={"target": f"{__name__}.Data"}) for _ in range(2))
    assert one != other and len({one, other}) == 2
    x, cond, uc = GaussianMixture().inputs()
    assert len(one.prepare_inputs(x, torch.ones(2), cond, uc)[0]) == 4


@pytest.mark.parametrize(("cls", "name"), [(Interval, "interval"), (Reporting, "report"), (Slotted, "__slots__")])
def test_a_guider_that_cannot_be_inherited_from_is_one_clear_line(cls, name):
    with pytest.raises(ValueError, match=f"{cls.__name__}.*{name}") as raised:
        TaylorSeerGuider(guider_config={"target": f"{__name__}.{cls.__name__}"})
    one_line(raised)


def test_a_subclass_may_have_a_constructor_of_its_own():
    class Preset(TaylorSeerGuider):
        def __init__(self, label, interval):
            super().__init__(interval=interval, guider_config={"target": IDENTITY})
            self.label = label

    guider = Preset("fast", 4)
    assert isinstance(guider, IdentityGuider) and (guider.label, guider.interval) == ("fast", 4)


@pytest.mark.parametrize("options", [{"scale": 0}, {"guider_config": {"target": IDENTITY}}], ids=str)
def test_the_class_of_a_guider_makes_guiders_of_whatever_class_is_asked_for(options):
    made = type(TaylorSeerGuider(scale=3.0))(**options)
    assert isinstance(made, IdentityGuider) and not isinstance(made, VanillaCFG)


class Keeping(VanillaCFG):
    """Keeps what it gave, as guiders with momentum do."""

    def __init__(self, scale):
        super().__init__(scale)
        self.kept = []

    def __call__(self, x, sigma, step=0):
        guided = super().__call__(x, sigma)
        self.kept.append((guided, guided.clone()))
        return guided


class TellsTheStep(DPMPP2MSampler):
    def denoise(self, x, denoiser, sigma, cond, uc):
        return self.guider(denoiser(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma, 0)


def test_what_a_wrapped_guider_keeps_is_not_written_into_and_it_combines_once_a_visit():
    problem, built = GaussianMixture(), sampler("DPMPP2MSampler")
    built.__class__ = TellsTheStep
    built.guider = TaylorSeerGuider(scale=2.0, guider_config={"target": f"{__name__}.Keeping"})
    built(problem, *problem.inputs())
    assert len(built.guider.kept) == len(built.guider.report.visits) == 20 > built.guider.report.calls
    assert all(torch.equal(*pair) for pair in built.guider.kept)
