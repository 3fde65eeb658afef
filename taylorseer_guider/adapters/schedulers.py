"""What is known of diffusers' schedulers: how they step, at which sigmas, and what a network says of the image there.

Whatever a scheduler calls its x, it is a multiple of image + sigma * noise, and a network is given

    x = shrink * (image + sigma * noise),     image = on_x * x + on_output * output

with 1 / shrink = sqrt(1 + sigma^2) in variance-preserving models and 1 + sigma in flow models, whose own sigma is the share of
noise, sigma / (1 + sigma). In sigma, a step of DDIM or of a flow's Euler method is one of Euler's method.
"""

import math
from dataclasses import replace

import torch

from ..hosts import Stepping
from ..schedule import ROUNDED

FAR = 1e4  # the sigma that stands for pure noise, where flows begin; from 200 to 1e4 a mixture's pictures were alike

EULER = Stepping(method="euler", visits=1, noisy=False)
HEUN = Stepping(method="heun", visits=2, noisy=False)
SMOOTH = Stepping(noisy=False)
STIRS = Stepping(stirs=True)
SCHEDULERS = {
    "CogVideoXDDIMScheduler": EULER,
    "DDIMParallelScheduler": EULER,
    "DDIMScheduler": EULER,
    "EulerDiscreteScheduler": EULER,
    "FlowMatchEulerDiscreteScheduler": EULER,
    "HeunDiscreteScheduler": HEUN,
    "DEISMultistepScheduler": SMOOTH,
    "DPMSolverMultistepScheduler": SMOOTH,
    "DPMSolverSinglestepScheduler": SMOOTH,
    "FlowMatchHeunDiscreteScheduler": SMOOTH,
    "LMSDiscreteScheduler": SMOOTH,
    "PNDMScheduler": SMOOTH,
    "UniPCMultistepScheduler": SMOOTH,
    "DDPMParallelScheduler": STIRS,
    "DDPMScheduler": STIRS,
    "EulerAncestralDiscreteScheduler": STIRS,
    "SASolverScheduler": STIRS,
}
FLOW = "flow"  # how the kinds of what networks of flows give begin
GIVEN = {  # what a pipeline's network gives, where it is turned into the flow's velocity before the scheduler sees it
    "Ideogram4ModularPipeline": f"{FLOW}, turned",
    "Ideogram4Pipeline": f"{FLOW}, turned",
    "Lumina2Pipeline": f"{FLOW}, turned",
    "NucleusMoEImagePipeline": f"{FLOW}, turned",
    "PRXPixelPipeline": f"{FLOW}, image",
}


def stepping(scheduler):
    """What is known of how ``scheduler`` steps; None where it is not known at which sigma a visit is."""
    config, known = scheduler.config, SCHEDULERS.get(type(scheduler).__name__)
    if known is None or config.get("invert_sigmas") or config.get("skip_prk_steps") is False:
        return None
    if config.get("stochastic_sampling") or str(config.get("algorithm_type")).startswith("sde"):
        return STIRS
    if config.get("clip_sample") or config.get("thresholding"):  # it does not take the image as it is given
        return replace(known, method=None)
    return known


def prediction(scheduler, pipe=None):
    """What the network of ``pipe`` gives: epsilon, v_prediction or sample; of a flow its velocity, or what ``GIVEN`` says."""
    if not _flows(scheduler):
        return scheduler.config.get("prediction_type")
    return next((GIVEN[cls.__name__] for cls in type(pipe).__mro__ if cls.__name__ in GIVEN), FLOW)


def _flows(scheduler):
    return type(scheduler).__name__.startswith("FlowMatch") or bool(scheduler.config.get("use_flow_sigmas"))


def _in_shares(scheduler):
    """Whether its sigmas are shares of noise; Cosmos' are not, which go far beyond 1."""
    return _flows(scheduler) and float(torch.as_tensor(scheduler.sigmas).max()) <= 1 + ROUNDED


def sigmas_of(scheduler):
    """The sigma of each of ``scheduler.timesteps``, read once a run, as floats up to ``FAR``."""
    count = len(scheduler.timesteps)
    sigmas = getattr(scheduler, "sigmas", ())
    if len(sigmas) == count + 1:
        sigmas = torch.as_tensor(sigmas[:-1]).double()
        if _in_shares(scheduler):
            sigmas = of_shares(sigmas)
    else:
        kept = scheduler.alphas_cumprod[scheduler.timesteps.long().cpu()].double()
        sigmas = ((1 - kept) / kept).sqrt()
    return sigmas.clamp(max=FAR).tolist()


def of_shares(shares):
    """The sigma of image + sigma * noise, up to ``FAR``, for each of a flow's ``shares`` of noise, a tensor."""
    shares = shares.double().clamp(max=1)  # which rounding may exceed
    return (shares / (1 - shares)).clamp(max=FAR)


def relation(kind, sigma):
    """(shrink, on_x, on_output) of a network that gives ``kind`` at ``sigma``; None for a kind that is not known."""
    shrink = 1 / (1 + sigma) if str(kind).startswith(FLOW) else 1 / math.hypot(1, sigma)
    noise = sigma * shrink
    kinds = {
        "epsilon": (1 / shrink, -noise / shrink),
        "v_prediction": (shrink, -noise),
        "sample": (0.0, 1.0),
        FLOW: (1.0, -noise),
        f"{FLOW}, turned": (1.0, noise),
        f"{FLOW}, image": (0.0, 1.0),
    }
    return (shrink, *kinds[kind]) if kind in kinds else None


def is_begun(scheduler):
    """Whether the timesteps of a ``scheduler`` are a run's: else a visit is another pipeline's, which shares the network."""
    known = hasattr(scheduler, "alphas_cumprod") or len(scheduler.sigmas) == len(scheduler.timesteps) + 1
    given = getattr(scheduler, "custom_timesteps", False)  # to DDPM's, which counts none then
    return known and (given or getattr(scheduler, "num_inference_steps", None) is not None)


class Walk:
    """One run of ``pipe`` over the timesteps of its ``scheduler``, from the first visit's, ``timestep``, on.

    ``known`` is how it steps, None where nothing can be forecast; ``sigmas`` are those that are visited, each once, and 0.
    """

    def __init__(self, scheduler, timestep, pipe=None):
        self.timesteps, self.kind, self.known = scheduler.timesteps, prediction(scheduler, pipe), stepping(scheduler)
        if self.known is None or not is_begun(scheduler) or relation(self.kind, 1.0) is None:
            self.known = None
            return
        self.each, self._places = sigmas_of(scheduler), self.timesteps.tolist()
        self.counts = hasattr(scheduler, "counter")
        self.start = self.last = 0
        self.start = self.last = self.position(scheduler, timestep) or 0
        self.sigmas = [*dict.fromkeys(sigma for sigma in self.each[self.start :] if sigma > 0), 0.0]
        if self.sigmas != sorted(self.sigmas, reverse=True):
            self.known = None

    @property
    def is_over(self):
        """Whether its last timestep has been visited."""
        return self.known is None or self.last + 1 >= len(self._places)

    def position(self, scheduler, timestep):
        """Which of the timesteps a visit is at: the scheduler says so, or its ``timestep`` does; None where neither can tell."""
        index = getattr(scheduler, "step_index", None)
        if index is None:
            index = getattr(scheduler, "begin_index", None)
        if index is None and (counter := getattr(scheduler, "counter", 0)):  # PNDM's, which has its second timestep twice
            if counter == 1:
                self._forget_one_of_two(timestep)
            index = self.start + counter
        if index is not None:
            return index if index < len(self._places) else None
        told = torch.as_tensor(timestep).unique().tolist()
        told = [each for each in told if each > 0] if len(told) > 1 else told  # 0 is that of a frame that is given (Wan 2.2)
        place = self._place(told[0], scheduler) if len(told) == 1 else None
        begun = self.last == self.start and hasattr(scheduler, "step_index")  # which will say so once a step has been taken
        return self.start if place is None and begun else place

    def _forget_one_of_two(self, timestep):
        """A run whose second visit is at ``timestep`` may have begun at the second of two equal timesteps."""
        first, expected, *following = self._places[self.start :]
        told = torch.as_tensor(timestep).flatten()[-1].item()
        if first == expected != told and following[:1] == [told]:
            del self._places[self.start], self.each[self.start]

    def _place(self, told, scheduler):
        """The timestep ``told``; networks of flows may be told t / 1000, in the dtype of x."""
        if told in self._places:
            return self._places.index(told)
        if not _in_shares(scheduler):
            return None
        shares = [place / scheduler.config.get("num_train_timesteps", 1) for place in self._places]
        near = min(range(len(shares)), key=lambda i: abs(shares[i] - told))
        return near if abs(shares[near] - told) <= ROUNDED * told else None

    def step(self, position):
        """The step that a visit serves; None where it is not known how many visits a step has. PNDM's visits are steps."""
        if self.known.visits:
            return (position - self.start) // self.known.visits
        return position - self.start if self.counts else None
