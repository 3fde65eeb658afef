"""The known hosts as data: where their samplers and guiders live."""

import importlib
import sys
from dataclasses import dataclass


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
        """The class that all of this host's samplers inherit from."""
        return getattr(sys.modules[self.sampling], self.base)

    def guider_class(self, name):
        """The host's own guider class ``name``."""
        return getattr(importlib.import_module(self.guiders), name)


HOSTS = (
    # also CogVideoX SAT, CogView3 and SUPIR, whose packages have this name too
    Host("sgm", "sgm.modules.diffusionmodules.sampling", "sgm.modules.diffusionmodules.guiders"),
    Host("Inf-DiT", "dit.sampling.samplers", "dit.sampling.guiders"),
    Host(
        "imaginairy",
        "imaginairy.modules.sgm.diffusionmodules.sampling",
        "imaginairy.modules.sgm.diffusionmodules.guiders",
    ),
    Host("standalone", "taylorseer_guider.standalone.sampling", "taylorseer_guider.standalone.guiders"),
)

METHODS = {"EulerEDMSampler": "euler", "HeunEDMSampler": "heun", "ConcatSRHeunEDMSampler": "heun"}  # that can be calibrated

NOISELESS = {*METHODS, "DPMPP2MSampler", "LinearMultistepSampler"}  # without churn, they add no noise of their own


def adds_noise(sampler):
    """Whether ``sampler`` may add noise on the way: all do but those known not to."""
    return type(sampler).__name__ not in NOISELESS or getattr(sampler, "s_churn", 0) > 0


def loaded_hosts():
    """The hosts among the loaded modules."""
    return [host for host in HOSTS if host.loaded()]


def building_host():
    """The host that is building a guider right now; failing that, the only one loaded; else None.

    A process may hold several hosts. The one that matters is the one whose sampler's constructor is on the stack.
    """
    hosts = {host.sampling: host for host in loaded_hosts()}
    frame = sys._getframe(1)
    while frame is not None:
        if host := hosts.get(frame.f_globals.get("__name__")):
            return host
        frame = frame.f_back
    return next(iter(hosts.values())) if len(hosts) == 1 else None


def host_named(name):
    """The host of that name, loaded or not."""
    return next(host for host in HOSTS if host.name == name)
