"""The node, and its two wrappers: one around a sampling run, one around each guided output that its sampler asks for."""

import logging
import math
from functools import partial

from comfy.model_sampling import CONST
from comfy.patcher_extension import WrappersMP
from comfy.samplers import CFGGuider
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from taylorseer_guider.adapters.given import checked
from taylorseer_guider.adapters.k_diffusion import forecaster, stepping
from taylorseer_guider.adapters.schedulers import of_shares
from taylorseer_guider.settings import regrouped

logger = logging.getLogger(__name__)
KEY = "taylorseer"
POST_CFG = "sampler_post_cfg_function"
if not hasattr(WrappersMP, "PREDICT_NOISE"):
    raise ImportError("TaylorSeer needs a ComfyUI that has WrappersMP.PREDICT_NOISE (0.3.36 has not); update it")


class TaylorSeer:
    DESCRIPTION = "Runs the model at some steps and forecasts its guided output at the others. Works with any model and sampler."
    CATEGORY, FUNCTION, RETURN_TYPES = "advanced/model", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        calls = {"default": 0, "min": 0, "max": 1000, "tooltip": "at how many steps the model is run; 0: at half of them"}
        options = {"default": "", "multiline": True, "tooltip": "options of TaylorSeerGuider, one a line, such as max_order: 2"}
        return {"required": {"model": ("MODEL",), "calls": ("INT", calls)}, "optional": {"options": ("STRING", options)}}

    def patch(self, model, calls, options=""):
        """A clone of ``model`` with the wrappers. ValueError for options that are unknown or out of range."""
        given = read(options)
        if calls and given.get("calls", calls) != calls:
            raise ValueError(f"calls={calls}: the options say calls: {given['calls']}; leave one of the two out")
        given |= {"calls": calls} if calls else {}
        checked(given)
        model = model.clone()
        for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, partial(sampled, given)), (WrappersMP.PREDICT_NOISE, predicted)):
            model.remove_wrappers_with_key(kind, KEY)
            model.add_wrapper_with_key(kind, KEY, wrapper)
        return (model,)


def read(options):
    """The lines of YAML ``options`` as a dictionary. ValueError where they are none."""
    try:
        found = OmegaConf.to_container(OmegaConf.create(options))
    except (YAMLError, OmegaConfBaseException, ValueError, AssertionError):  # no YAML; a single number
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"options={options!r}: give one option a line, such as interval: 3")
    return regrouped(found)


def sampled(options, executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """A sampling run, whose forecaster lives in its own copy of the model's options."""
    run = executor.class_obj.model_options.setdefault("transformer_options", {})
    made = run[KEY] = begun(options, executor.class_obj, sampler, sigmas)
    try:
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    finally:
        del run[KEY]
        if made is None:
            logger.info("TaylorSeer: sigmas do not fall here, and the model is run at each of them")
        elif (report := made.report) is None:
            logger.info("TaylorSeer: the sampler looks into each run of the model, as CFG++ does; nothing is forecast")
        else:
            made.end(quietly=True)
            logger.info("TaylorSeer: the model was run %d times, and %d outputs were forecast", report.calls, report.forecasts)
            logger.debug("%s", report)


def begun(options, guider, sampler, sigmas):
    """The Forecaster of a run; None where its sigmas do not fall, as when an image is turned back into noise."""
    function, sigmas = getattr(sampler, "sampler_function", None), noise_of(guider, sigmas)
    if len(sigmas) < 2 or not (sigmas[:-1] > sigmas[1:]).all():
        return None
    if (options.get("calls") or 0) > (steps := int((sigmas > 0).sum())):  # a second pass, of a part of the steps
        logger.info("TaylorSeer: calls=%d, and there are %d steps: the model is run at each of them", options["calls"], steps)
        options = {**options, "calls": steps}
    if flows(guider) and stepping(function).method is None:
        options = {**options, "forecast": {"quantity": "denoised", **(options.get("forecast") or {})}}
    return forecaster(function, sigmas, guider.cfg if type(guider) is CFGGuider else math.inf, **options)


def predicted(executor, x, timestep, model_options, *args, **kwargs):
    """A guided output, the model's or a forecast."""
    guider, made = executor.class_obj, model_options.get("transformer_options", {}).get(KEY)
    listened = len(model_options.get(POST_CFG, ())) > len(guider.model_options.get(POST_CFG, ()))  # the sampler itself does
    if made is None or listened:
        return executor(x, timestep, model_options, *args, **kwargs)
    sigma = noise_of(guider, timestep)
    image_and_noise = x * (1 + sigma).to(x.dtype).view(-1, *[1] * (x.ndim - 1)) if flows(guider) else x
    return made.visit(image_and_noise, sigma, lambda *_: executor(x, timestep, model_options, *args, **kwargs))


def flows(guider):
    """Whether x is (1 - sigma) image + sigma noise, and not image + sigma noise."""
    return isinstance(guider.model_patcher.get_model_object("model_sampling"), CONST)


def noise_of(guider, sigmas):
    """``sigmas`` as those of image + sigma noise."""
    return of_shares(sigmas) if flows(guider) else sigmas
