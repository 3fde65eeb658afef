"""A mistake in a parameter is one clear error at construction."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from problems import VANILLA
from taylorseer_guider import TaylorSeerGuider, settings
from taylorseer_guider.settings import GROUPS, Settings
from taylorseer_guider.standalone.config import instantiate_from_config

MISTAKES = [
    ({"interval": 0}, "interval=0.*from 1 up"),
    ({"interval": 2.5}, "interval=2.5.*whole number"),
    ({"interval": True}, "interval=True"),
    ({"max_order": -1}, "max_order=-1.*from 0 up"),
    ({"warmup": "two"}, "warmup='two'"),
    ({"tail": -3}, "tail=-3"),
    ({"activate": []}, r"plan.nodes=\[\].*\[0, 3, 6, 9\]"),
    ({"activate": [0, -2]}, "plan.nodes=-2.*from 0 up"),
    ({"activate": "0,3"}, "plan.nodes='0,3'"),
    ({"step_threshold": 0}, "step_threshold=0.*above 0"),
    ({"step_threshold": float("nan")}, "step_threshold=nan"),
    ({"repeat_visits": "skip"}, "repeat_visits='skip'.*reuse, later, compute"),
    ({"coordinate": "rhoo"}, "coordinate='rhoo'.*sigma, rho, log_sigma, asinh"),
    ({"basis": "hermite"}, "basis='hermite'.*newton, taylor"),
    ({"calls": 0}, "calls=0.*from 1 up"),
    ({"calls": 5, "activate": [0, 3]}, "plan.nodes=.*calls=5: each plans the calls; leave one"),
    ({"calls": 5, "tolerance": 0.1}, "plan.tolerance=0.1, calls=5: each plans the calls"),
    ({"calls": 5, "calibration": "c.yaml", "interval": 3}, "interval=3: calibration='c.yaml' decides it; leave one"),
    ({"calls": 5, "calibration": "c.yaml", "max_order": 1}, "max_order=1: calibration="),
    ({"calls": 5, "calibration": "c.yaml", "repeat_visits": "compute"}, "repeat_visits='compute': calibration="),
    ({"calls": 5, "calibration": "c.yaml", "plan": {"warmup": 2}}, "plan: calibration="),
    ({"calls": 5, "calibration": "c.yaml", "forecast": {"quantity": "eps"}}, "forecast: calibration="),
    ({"quantity": "x0"}, "quantity='x0'.*auto, denoised, eps, v, edm"),
    ({"use_cache": "yes"}, "use_cache='yes'.*true or false"),
    ({"history_dtype": "int8"}, "history.dtype='int8'.*bfloat16"),
    ({"history_dtype": "nonsense"}, "history.dtype='nonsense'"),
    ({"history_device": "nowhere"}, "history.device='nowhere'.*cpu"),
    ({"scale": float("inf")}, "scale=inf.*finite"),
    ({"scale": "5"}, "scale='5'.*a text: leave the quotes out"),
    ({"scale": 10**400}, "scale=1000.*finite"),
    ({"max_order": 10**400}, "max_order=1000.*whole number of 100 at most"),
    ({"interval": "3"}, "interval='3'.*a text: leave the quotes out"),
    ({"history_dtype": "float8_e4m3fn"}, "history.dtype='float8_e4m3fn'.*bfloat16"),
    ({"history_device": "meta"}, "history.device='meta'.*holds no numbers"),
    ({"history_device": 10**400}, "history.device=1000.*cpu"),
    ({"learn": "a\0b", "calls": 5}, "learn=.*has no character 0"),
    ({"scale": None}, "scale=None"),
    ({"intervall": 3}, "unknown option intervall.*interval.*max_order"),
    ({"scale": 0, "dyn": 1}, "unknown option dyn"),
    ({"guider_config": {"params": {}}}, "guider_config=.*target"),
    ({"guider_config": {"target": VANILLA, "params": [5.0]}}, r"guider_config.params=\[5.0\]: give a mapping"),
    ({"guider_config": {"target": VANILLA, "params": {"scale": 2.0, "scael": 2}}}, "unknown option scael"),
    ({"guider_config": {"target": VANILLA, "params": {1: 2}}}, "unknown option 1"),
    ({"guider_config": {"target": VANILLA, "params": []}}, r"guider_config.params=\[\]: give a mapping"),
    ({"guider_config": {"target": VANILLA, "param": {"scale": 2.0}}}, "guider_config.param: unknown entry.*`params`"),
    ({"guider_config": {"target": VANILLA, "params": {"scale": float("nan")}}}, "guider_config.params.scale=nan"),
    ({"guider_config": {"target": VANILLA, "params": {"scale": "2"}}}, "guider_config.params.scale='2'.*a text"),
    ({"guider_config": {"target": "nope.Nope"}}, "guider_config.target='nope.Nope': cannot be imported.*package.module.Class"),
    ({"guider_config": {"target": f"{VANILLA}s"}}, "guider_config.target=.*cannot be imported"),
    ({"guider_config": {"target": ""}}, "guider_config.target='': cannot be imported"),
    ({"guider_config": {"target": "..."}}, "guider_config.target='...': cannot be imported"),
    ({"guider_config": {"target": "torch.Tensor"}}, "guider_config.target='torch.Tensor': that is no guider"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_names_value_range_and_remedy(options, message):
    with pytest.raises(ValueError, match=message):
        TaylorSeerGuider(**options)


@pytest.mark.parametrize("made", [torch.tensor, np.array])
def test_numbers_may_come_as_arrays(made):
    guider = TaylorSeerGuider(scale=made(2.0), plan={"nodes": made([0, 3])})
    assert guider.scale == 2.0 and guider.settings.plan.nodes == (0, 3)
    guider.scale = made(3.0)
    assert type(guider.scale) is float and guider.scale == 3.0


def test_a_guider_is_built_from_yaml_with_dtypes_devices_and_lists_by_name():
    config = OmegaConf.create(
        "{target: taylorseer_guider.TaylorSeerGuider, params: {scale: 2, plan: {nodes: [9, 0, 3]},"
        " history: {dtype: bfloat16, device: cpu}, guider_config: {target: " + VANILLA + "}}}"
    )
    guider = instantiate_from_config(config)
    assert guider.settings.plan.nodes == guider.plan.nodes == (0, 3, 9)
    assert guider.settings.history.dtype is torch.bfloat16
    assert guider.settings.history.device == torch.device("cpu")
    assert guider.scale == 2


def test_settings_cannot_be_changed_later():
    guider = TaylorSeerGuider(interval=4)
    assert guider.interval == 4
    with pytest.raises(AttributeError, match="interval is fixed at construction"):
        guider.interval = 2
    with pytest.raises(AttributeError):
        guider.settings.interval = 2


def test_every_option_is_in_the_docstring_and_the_signature():
    shown = inspect.signature(TaylorSeerGuider).parameters
    for option in fields(Settings):
        assert option.name in TaylorSeerGuider.__doc__
        default = None if option.name in GROUPS else getattr(Settings(), option.name)
        assert shown[option.name].default == default
    for group in GROUPS.values():
        assert all(option.name in TaylorSeerGuider.__doc__ for option in fields(group))


@pytest.mark.parametrize(
    ("name", "value"), [("activate", [0, 4]), ("warmup", 3), ("quantity", "eps"), ("history_dtype", "bfloat16")]
)
def test_flat_names_of_grouped_options_still_work_and_say_once_where_they_have_gone(name, value, caplog):
    settings._say_moved.cache_clear()
    group, inside = settings.MOVED[name]
    guiders = [TaylorSeerGuider(**{name: value}) for _ in range(2)]
    assert guiders[0].settings == TaylorSeerGuider(**{group: {inside: value}}).settings
    assert [record.message for record in caplog.records] == [f"the option {name} is now {group}: {{{inside}: ...}}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": {"node": [0]}}, "plan.node: unknown option; plan takes nodes, warmup"),
        ({"plan": 3}, "plan=3: give a mapping"),
        ({"forecast": {"basis": "hermite"}}, "forecast.basis='hermite'"),
        ({"history": {"dtype": "int8"}}, "history.dtype='int8'"),
        ({"plan": {"warmup": 2}, "warmup": 3}, "warmup=3: plan.warmup=2 is given, too"),
        ({"plan": {"tolerance": 0.1, "nodes": [0, 3]}}, "plan.nodes=.*plan.tolerance=0.1: each plans the calls"),
    ],
)
def test_a_mistake_in_a_group_names_the_group(options, message):
    with pytest.raises(ValueError, match=message):
        TaylorSeerGuider(**options)


def test_a_null_is_as_if_it_were_left_out():
    assert TaylorSeerGuider(calls=8, learn=None).settings.learn is False
