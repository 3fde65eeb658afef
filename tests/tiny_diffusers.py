"""Diffusers' own classes in tiny, with random weights, and networks in closed form in the place of theirs."""

import inspect
from types import SimpleNamespace

import diffusers
import torch

from problems import GaussianMixture

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SVD = {
    **SD, "prediction_type": "v_prediction", "sigma_max": 700.0, "sigma_min": 0.002, "timestep_spacing": "leading",
    "timestep_type": "continuous", "use_karras_sigmas": True,
}  # fmt: skip
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {**SD, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "ddim v": ("DDIMScheduler", {**SD, "clip_sample": False, "prediction_type": "v_prediction"}),
    "euler": ("EulerDiscreteScheduler", SD),
    "euler karras": ("EulerDiscreteScheduler", {**SD, "use_karras_sigmas": True}),
    "euler sample": ("EulerDiscreteScheduler", {**SD, "prediction_type": "sample"}),
    "svd": ("EulerDiscreteScheduler", SVD),
    "heun": ("HeunDiscreteScheduler", SD),
    "flow": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "dpm": ("DPMSolverMultistepScheduler", SD),
    "dpm v": ("DPMSolverMultistepScheduler", {**SD, "prediction_type": "v_prediction", "use_karras_sigmas": True}),
    "dpm single": ("DPMSolverSinglestepScheduler", {**SD, "lower_order_final": True}),
    "unipc": ("UniPCMultistepScheduler", SD),
    "unipc flow": ("UniPCMultistepScheduler", FLOW),
    "deis": ("DEISMultistepScheduler", SD),
    "lms": ("LMSDiscreteScheduler", SD),
    "pndm": ("PNDMScheduler", {**SD, "skip_prk_steps": True}),
    "flow heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    "ancestral": ("EulerAncestralDiscreteScheduler", SD),
    "ddpm": ("DDPMScheduler", {**SD, "clip_sample": False}),
    "sde": ("DPMSolverMultistepScheduler", {**SD, "algorithm_type": "sde-dpmsolver++"}),
}


def scheduler(name):
    kind, config = SCHEDULERS[name]
    return getattr(diffusers, kind)(**config)


class Known(torch.nn.Module):
    """A network with the signature of a UNet, whose image at x and sigma is ``image(x, sigma, cond)``: no weights to learn.

    It knows its ``scheduler`` as a trained network does, by how noisy x is at a timestep. ``runs`` counts; the run that is to
    come after ``breaks`` others raises.
    """

    def __init__(self, image, scheduler):
        super().__init__()
        self.image, self.config, self.runs, self.breaks = image, scheduler.config, 0, None
        self.flows = "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("use_flow_sigmas", False)
        if not self.flows:
            kept = scheduler.alphas_cumprod.double()
            self.log_sigmas = ((1 - kept) / kept).sqrt().log()

    def levels(self, timestep):
        """(share of the image, share of noise) in x."""
        timestep = torch.as_tensor(timestep).double().flatten()[0]
        if self.flows:
            return 1 - timestep / 1000, timestep / 1000
        if self.config.get("timestep_type") == "continuous":
            sigma = (4 * timestep).exp()
        else:
            low = timestep.floor().clamp(max=len(self.log_sigmas) - 2).long()
            sigma = torch.lerp(self.log_sigmas[low], self.log_sigmas[low + 1], timestep - low).exp()
        return 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()

    def forward(self, sample, timestep, encoder_hidden_states=None, return_dict=True):
        self.runs += 1
        if self.breaks is not None:
            self.breaks -= 1
            if self.breaks < 0:
                self.breaks = None
                raise RuntimeError("broken")
        shrink, noise = self.levels(timestep)
        x = sample.double()
        image = self.image(x / shrink.clamp(min=1e-9), noise / shrink.clamp(min=1e-9), encoder_hidden_states)
        kind = "flow" if self.flows else self.config["prediction_type"]
        output = {
            "epsilon": (x - shrink * image) / noise,
            "v_prediction": (shrink * x - image) / noise,
            "sample": image,
            "flow": (x - image) / noise,
        }[kind].to(sample.dtype)
        return SimpleNamespace(sample=output) if return_dict else (output,)


def mixture(batch=2):
    """What a network in closed form says of ``batch`` samples of a mixture of Gaussians."""
    problem = GaussianMixture(components=8)
    leanings = problem.inputs(batch)[1]["vector"]

    def image(x, sigma, cond):
        return problem(x, sigma.expand(len(x)), {"vector": leanings[: len(x)]})

    return image


class Pipeline:
    """The least that ``enable`` takes: a network that gives ``image`` and the scheduler ``name``."""

    def __init__(self, image, name):
        self.scheduler = scheduler(name)
        self.unet = Known(image, self.scheduler)


def sample(
    pipe, steps, conds=(None,), x=None, combine=lambda outputs, i: outputs[0], start=0, begun=False, dtype=torch.float64, batch=2
):
    """The loop of diffusers' pipelines, from step ``start`` on, with a run of the network for each of ``conds`` (of a step).

    ``begun``: the timesteps are those of the last run. ``dtype`` is the network's.
    """
    made, rng = pipe.scheduler, torch.Generator().manual_seed(1)
    start *= made.order
    if not begun:
        made.set_timesteps(steps)
    if start and hasattr(made, "set_begin_index"):
        made.set_begin_index(start)
    x = torch.randn(batch, 3, 4, 4, generator=rng, dtype=torch.float64) if x is None else x
    x = x * getattr(made, "init_noise_sigma", 1.0)
    drawn = {"generator": rng} if "generator" in inspect.signature(made.step).parameters else {}
    for i, t in enumerate(made.timesteps[start:]):
        scaled = (made.scale_model_input(x, t) if hasattr(made, "scale_model_input") else x).to(dtype)
        asked = conds(i) if callable(conds) else conds
        outputs = [pipe.unet(scaled, t, encoder_hidden_states=cond, return_dict=False)[0].double() for cond in asked]
        x = made.step(combine(outputs, i), t, x, return_dict=False, **drawn)[0].double()
    return x
