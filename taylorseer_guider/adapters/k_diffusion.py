"""k-diffusion: ``Forecasting`` stands in the place of the model that its samplers call."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial

import torch

from ..hosts import Stepping
from ..report import Report
from ..steps import DPMPP2M, LinearMultistep
from .core import UNKNOWN, Forecaster
from .given import checked

ONCE = Stepping(visits=1, noisy=False)  # an output a step, at its beginning
SAMPLERS = {  # the functions that are known to add no noise: k-diffusion's, and those that ComfyUI has beside them
    "sample_euler": replace(ONCE, method="euler"),
    "sample_heun": replace(ONCE, method="heun", visits=2),
    "sample_lms": replace(ONCE, step=LinearMultistep()),
    "sample_dpmpp_2m": replace(ONCE, step=DPMPP2M()),
    **dict.fromkeys(("sample_ipndm", "sample_ipndm_v", "sample_deis", "sample_res_multistep"), ONCE),
    **dict.fromkeys(("sample_gradient_estimation", "sample_unipc", "sample_unipc_bh2"), ONCE),
}
ADAPTIVE = ("sample_dpm_adaptive", "dpm_adaptive_function")  # outputs' differences choose their steps: a forecast deceives them


class Forecasting:
    """``model(x, sigma, **extra_args)`` as ``sample_*`` functions take it, called at some sigmas and forecast at the others.

    ``model`` gives the denoised x, guided if there is guidance; its attributes are this one's, since samplers and wrappers read
    ``model.inner_model``. ``sigmas`` (n,) are those that the sampler is given, and ``sampler`` is that function; one that is not
    in ``SAMPLERS``, or left out, is taken to add noise, and one in ``ADAPTIVE`` has all of its outputs computed. ``scale``
    and ``options`` are a ``Forecaster``'s, and so are the ValueErrors. One instance serves any number of pictures, one after
    the other.
    """

    def __init__(
        self, model: Callable[..., torch.Tensor], sigmas: torch.Tensor, sampler: Callable | None = None, *,
        scale: float = math.inf, **options,
    ) -> None:  # fmt: skip
        checked(options)
        if not callable(model):
            raise ValueError(f"model={model!r}: give what the sampler calls, model(x, sigma, **extra_args)")
        if sigmas is None:
            raise ValueError("sigmas=None: give those that the sampler is given")
        self._model, self._forecaster = model, forecaster(sampler, sigmas, scale, movable=True, **options)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **kwargs) -> torch.Tensor:
        return self._forecaster.visit(x, sigma, partial(self._model, **kwargs))

    def __getattr__(self, name):
        return getattr(self.__dict__.get("_model"), name)

    @property
    def report(self) -> Report | None:
        """What was done in the run under way, or in the last one; None before the first visit."""
        return self._forecaster.report

    def end(self) -> None:
        """The run is over, and its history freed. Not needed where a next one begins."""
        self._forecaster.end()


def forecaster(
    sampler: Callable | None, sigmas: torch.Tensor, scale: float = math.inf, movable: bool = False, **options
) -> Forecaster:
    """The Forecaster for a run of ``sampler`` over ``sigmas``, at a guidance ``scale`` if it is known."""
    if _name_of(sampler) in ADAPTIVE:
        options["use_cache"] = False
    return Forecaster(sigmas, stepping(sampler), scale, movable, **options)


def stepping(sampler: Callable | None) -> Stepping:
    """What is known of a function ``sample_*``, by its name."""
    name = _name_of(sampler)
    if (known := SAMPLERS.get(name)) is None:
        return UNKNOWN
    step = known.step
    if name == "sample_lms":
        order = sampler.keywords.get("order", step.order) if isinstance(sampler, partial) else step.order
        step = replace(_ending(_unwrapped(sampler)), order=order)
    return replace(known, name=name, step=step)


def _unwrapped(sampler):
    return sampler.func if isinstance(sampler, partial) else sampler


def _name_of(sampler):
    """The name of the function ``sampler``, None where there is none. ValueError for what is none."""
    if sampler is not None and not callable(sampler):
        raise ValueError(f"sampler={sampler!r}: give the function itself, such as k_diffusion.sampling.sample_heun")
    return getattr(_unwrapped(sampler), "__name__", None)


@cache
def _ending(sample_lms):
    """The step of that linear multistep method: k-diffusion's goes to 0 by its polynomial, ComfyUI's ends at the last output."""
    sigmas, ended = torch.tensor([1.0, 0.5, 0.0], device="cpu"), None
    with suppress(Exception):  # one that takes something else
        ended = sample_lms(lambda x, sigma, **_: sigma[:, None], torch.ones(1, 1, device="cpu"), sigmas, disable=True)
    return LinearMultistep(ends=torch.is_tensor(ended) and bool((ended == sigmas[1]).all()))
