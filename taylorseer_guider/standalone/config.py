"""``{target, params}`` and the two small helpers that every sgm-family host has."""

import importlib


def get_obj_from_str(path):
    """``"package.module.Name"`` -> the object itself."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def instantiate_from_config(config):
    """Build ``config["target"]`` with keyword arguments ``config["params"]``. KeyError where there is no target."""
    if "target" not in config:
        raise KeyError(f"a config needs a `target` to be instantiated, got {config!r}")
    return get_obj_from_str(config["target"])(**config.get("params", {}))


def append_dims(x, ndim):
    """View ``x`` with trailing axes of length 1 until it has ``ndim`` of them."""
    return x[(...,) + (None,) * (ndim - x.ndim)]
