"""The known hosts and samplers as data: where they live, and how they step."""

import importlib
import inspect
import sys
from dataclasses import dataclass, replace
from functools import cache

from .steps import DPMPP2M, LinearMultistep


@dataclass(frozen=True)
class Host:
    """One code base of the sgm family. It is found among the loaded modules; none is imported to see whether it is there."""

    name: str
    sampling: str  # module of the samplers
    guiders: str  # module of VanillaCFG and IdentityGuider
    base: str = "BaseDiffusionSampler"

    def loaded(self):
        """Whether the program has imported this host's samplers."""
        return self.sampling in sys.modules

    def sampler_base(self):
        """The class that all of this host's samplers inherit from; None while its module is still being imported."""
        return getattr(sys.modules[self.sampling], self.base, None)

    def guider_class(self, name):
        """The host's own guider class ``name``."""
        return getattr(importlib.import_module(self.guiders), name)


STANDALONE = Host("standalone", "taylorseer_guider.standalone.sampling", "taylorseer_guider.standalone.guiders")
HOSTS = (
    # also CogVideoX SAT, CogView3 and SUPIR, whose packages have this name too
    Host("sgm", "sgm.modules.diffusionmodules.sampling", "sgm.modules.diffusionmodules.guiders"),
    Host("Inf-DiT", "dit.sampling.samplers", "dit.sampling.guiders"),
    Host(
        "imaginairy",
        "imaginairy.modules.sgm.diffusionmodules.sampling",
        "imaginairy.modules.sgm.diffusionmodules.guiders",
    ),
    STANDALONE,
)


def loaded_hosts():
    """The hosts among the loaded modules."""
    return [host for host in HOSTS if host.loaded()]


def only_host():
    """The host whose guiders ``scale`` alone means: the one that is loaded beside standalone, else standalone.

    ValueError where several are loaded.
    """
    others = [host for host in loaded_hosts() if host is not STANDALONE]
    if len(others) > 1:
        names = " and ".join(host.name for host in others)
        remedy = f"name one of them, such as guider_config: {{target: {others[0].guiders}.VanillaCFG}}"
        raise ValueError(f"guider_config=None: {names} are loaded, and each has a VanillaCFG; {remedy}")
    return others[0] if others else STANDALONE


@dataclass(frozen=True)
class Stepping:
    """How a sampler steps, as far as it is known.

    ``visits`` counts the outputs that a step asks for: the first at its beginning, a second one at its end (but not where that
    is sigma 0); None where they may lie elsewhere. ``noisy``: it may add noise on the way; ``stirs``: it is known to. ``rising``:
    its keys are square roots of alpha_cumprod, not sigmas. ``method`` names what can be calibrated, ``step`` (one of ``steps``)
    is what a step makes of earlier answers. ``asks``: through its `denoise`, so that it can be asked again.
    """

    name: str | None = None
    method: str | None = None
    visits: int | None = None
    noisy: bool = True
    stirs: bool = False
    rising: bool = False
    step: DPMPP2M | LinearMultistep | None = None
    asks: bool = True


SAMPLERS = {
    "EulerEDMSampler": Stepping(method="euler", visits=1, noisy=False),
    "HeunEDMSampler": Stepping(method="heun", visits=2, noisy=False),
    "ConcatSRHeunEDMSampler": Stepping(method="heun", visits=2, noisy=False),
    "DPMPP2MSampler": Stepping(visits=1, noisy=False, step=DPMPP2M()),
    "LinearMultistepSampler": Stepping(visits=1, noisy=False, step=LinearMultistep(), asks=False),
    "EulerAncestralSampler": Stepping(visits=1, stirs=True),
    "DPMPP2SAncestralSampler": Stepping(stirs=True),
    "ConcatDDIMSampler": Stepping(visits=1),
    "ZeroSNRDDIMSampler": Stepping(rising=True),
    "VideoDDIMSampler": Stepping(rising=True),
    "VideoDDPMSampler": Stepping(rising=True),
    "VPODEDPMPP2MSampler": Stepping(rising=True),
    "VPSDEDPMPP2MSampler": Stepping(rising=True),
    "Image2VideoDDIMSampler": Stepping(rising=True),
}
STEPS = {"__call__", "sampler_step", "euler_step", "possible_correction_step", "get_variables", "get_mult"}
ARGUMENTS = {  # of the known samplers' ``__call__`` and ``sampler_step``
    "self", "denoiser", "x", "cond", "uc", "num_steps",
    "old_denoised", "previous_sigma", "sigma", "next_sigma", "gamma",
    "rope_position_ids", "sample_step", "return_attention_map", "init_noise",  # Inf-DiT's, which change no step
    "state",  # standalone's
}  # fmt: skip


def stepping(sampler):
    """What is known of a ``sampler`` (an object, or None): the entry in ``SAMPLERS`` of its class, or of one it inherits from.

    A subclass that steps by itself, by one of the methods ``STEPS``, may do anything but change what its keys are, and so may a
    class of a fork that has a known one's name and takes more than the known ``ARGUMENTS`` (frames or masks to put back into x);
    one with churn adds noise and leaves its schedule.
    """
    unknown = Stepping()
    own = set()
    for cls in type(sampler).__mro__:
        if known := SAMPLERS.get(cls.__name__):
            known = replace(known, name=cls.__name__, step=known.step and known.step.on(sampler))
            churned = getattr(sampler, "s_churn", 0) > 0
            if churned or own & STEPS or not _known_arguments(cls):
                return replace(unknown, rising=known.rising, stirs=churned or known.stirs)
            return known
        own |= vars(cls).keys()
    return unknown


@cache
def _known_arguments(cls):
    """Whether ``cls`` is called, and steps, with nothing but ``ARGUMENTS``."""
    methods = [getattr(cls, name) for name in ("__call__", "sampler_step") if hasattr(cls, name)]
    taken = [each for method in methods for each in inspect.signature(method).parameters.values()]
    return all(each.name in ARGUMENTS for each in taken if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))
