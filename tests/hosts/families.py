"""The code bases whose real samplers these tests run: where they are, and how to import them without heavy company."""

import importlib
import os
import sys
import types
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from standins import stand_ins


@dataclass(frozen=True)
class Family:
    """One code base: an installed package, or a checkout that an environment variable names."""

    name: str
    package: str  # dotted, holds the modules below
    get: str  # how to get it
    modules: tuple[str, ...] = ("sampling", "guiders", "discretizer")
    root_variable: str | None = None
    folder: str = "."  # below the checkout, goes on the path
    sampler_params: dict = field(default_factory=lambda: {"device": "cpu"})
    guider: dict = field(default_factory=lambda: {"target": "VanillaCFG", "params": {}})  # what takes a scale there

    @property
    def key(self):
        """What ``--host`` calls it."""
        return self.name.lower().replace("-", "")

    @property
    def top(self):
        """Its top-level package, which it may share with another family."""
        return self.package.partition(".")[0]

    @property
    def root(self):
        """The folder that goes on the path, or None."""
        named = os.environ.get(self.root_variable or "")
        return Path(named) / self.folder if named else None

    @property
    def at_hand(self):
        """Whether it is installed, or its checkout named."""
        return self.root is not None if self.root_variable else find_spec(self.top) is not None

    def config(self, module, name, **params):
        """``{target, params}`` of a class of this family."""
        return {"target": f"{self.package}.{module}.{name}", "params": params}


def _checkout(variable, repository):
    return f"git clone https://github.com/{repository} and set {variable} to the checkout"


_SGM = "sgm.modules.diffusionmodules"
IMAGINAIRY = Family(
    "imaginairy",
    "imaginairy.modules.sgm.diffusionmodules",
    "pip install --no-deps imaginairy==15.0.0 torchdiffeq==0.2.5",
    sampler_params={},
)
SGM = Family("sgm", _SGM, _checkout("SGM_ROOT", "Stability-AI/generative-models"), root_variable="SGM_ROOT")
INFDIT = Family(
    "Inf-DiT",
    "dit.sampling",
    _checkout("INFDIT_ROOT", "THUDM/Inf-DiT"),
    modules=("samplers", "guiders", "discretizers", "utils"),
    root_variable="INFDIT_ROOT",
)
COGVIDEO = Family("CogVideoX", _SGM, _checkout("COGVIDEO_ROOT", "THUDM/CogVideo"), root_variable="COGVIDEO_ROOT", folder="sat")
COGVIEW = Family("CogView3", _SGM, _checkout("COGVIEW3_ROOT", "THUDM/CogView3"), root_variable="COGVIEW3_ROOT", folder="sat")
SUPIR = Family(
    "SUPIR",
    _SGM,
    _checkout("SUPIR_ROOT", "Fanghua-Yu/SUPIR"),
    root_variable="SUPIR_ROOT",
    guider={"target": "LinearCFG", "params": {"scale_min": 1.5}},
)
COMFYUI = Family(  # a front-end: the host of an adapter
    "ComfyUI", "comfy", _checkout("COMFYUI_ROOT", "comfyanonymous/ComfyUI"), modules=("cli_args",), root_variable="COMFYUI_ROOT"
)
SGM_FAMILY = (IMAGINAIRY, SGM, INFDIT, COGVIDEO, COGVIEW, SUPIR)
FAMILIES = (*SGM_FAMILY, COMFYUI)


def loaded(family):
    """The family's modules, by name, imported for as long as the process lasts: it has this host and no other."""
    if family.root is not None:
        sys.path.insert(0, str(family.root))
    with stand_ins():
        modules = {name: importlib.import_module(f"{family.package}.{name}") for name in family.modules}
    return types.SimpleNamespace(**modules)
