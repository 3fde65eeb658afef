"""Forecasts in pipelines of diffusers: ``enable(pipe, calls=10)`` before it is called, ``disable(pipe)`` to have it as it was.

A classic pipeline has its networks hooked: where a forecast is made, the network is not run, and its output is what leads the
scheduler to the forecast image. A modular pipeline has its guiders exchanged for guiders of the same class that ask for no run of
the network where they forecast, and then answer with their combined output.
"""

import inspect
import logging
from contextlib import contextmanager
from functools import cache

import torch
from diffusers.guiders import BaseGuidance
from diffusers.guiders.guider_utils import GuiderOutput
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.utils import BaseOutput

from ..visits import eager
from .streams import Streams

logger = logging.getLogger(__name__)
NAME = "taylorseer"
NETWORKS = ("unet", "transformer", "transformer_2", "unconditional_transformer")
GUIDERS = ("guider", "guider_2", "audio_guider")


def enable(pipe: object, **options) -> Streams:
    """Have the runs of ``pipe`` forecast with ``options``, those of ``TaylorSeerGuider`` (but calibration and learn).

    Returns what has the ``report`` of each run. Where a run has fewer nodes than ``calls``, each is called. Where ``pipe`` was
    enabled before, the new options hold. ValueError for unknown options and values out of range, and for a pipeline in which
    there is nothing to forecast.
    """
    streams = Streams(pipe, options)
    _warn_of_another(pipe)
    disable(pipe)
    guiders = [part for part in _parts(pipe, GUIDERS) if isinstance(part, BaseGuidance)]
    networks = [part for part in _parts(pipe, NETWORKS) if isinstance(part, torch.nn.Module)]
    if not guiders and not networks:
        raise ValueError(f"{type(pipe).__name__} has none of {', '.join((*GUIDERS, *NETWORKS))}: there is nothing to forecast")
    for guider in guiders:
        guider.__class__, guider._streams = _forecasting(type(guider)), streams
    for network in [] if guiders else networks:
        with _beneath(network):
            HookRegistry.check_if_exists_or_initialize(network).register_hook(ForecastHook(streams), NAME)
    return streams


def disable(pipe: object) -> None:
    """Have ``pipe`` as it was before ``enable``."""
    for guider in _parts(pipe, GUIDERS):
        if isinstance(guider, Forecasting):
            guider.leave()
    for network, _ in _hooked(pipe):
        with _beneath(network):
            network._diffusers_hook.remove_hook(NAME, recurse=False)


def _hooked(pipe):
    """[(network, its ForecastHook)] of those networks of ``pipe`` that have one, whichever pipeline was enabled."""
    hooks = [(network, getattr(getattr(network, "_diffusers_hook", None), "hooks", {})) for network in _parts(pipe, NETWORKS)]
    return [(network, each[NAME]) for network, each in hooks if NAME in each]


def _warn_of_another(pipe):
    """Have the log say so where another pipeline is enabled that shares a network with ``pipe``, and has its own scheduler."""
    for before in {hook._streams.scheduler for _, hook in _hooked(pipe)}:
        if before is not None and before is not getattr(pipe, "scheduler", None):
            logger.warning(
                "another pipeline that shares a network with this one was enabled: it is not any more; give each its own"
            )


@contextmanager
def _beneath(network):
    """Within, ``network`` is without accelerate's own hook, which moves it to the GPU and back (``enable_model_cpu_offload``).

    That one is taken off and put on after each picture, and keeps the forward that it found, ours with it.
    """
    outer = vars(network).get("forward") if "_old_forward" in vars(network) else None
    if outer is None:
        yield
        return
    network.forward = network._old_forward
    try:
        yield
    finally:
        network._old_forward, network.forward = network.forward, outer


def _parts(pipe, names):
    """What ``pipe`` has of these, each once: two names may share one."""
    return list(dict.fromkeys(part for name in names if (part := getattr(pipe, name, None)) is not None))


class ForecastHook(ModelHook):
    """On a network: runs it where a call is planned, if it gives one tensor."""

    def __init__(self, streams):
        super().__init__()
        self._streams = streams

    def initialize_hook(self, module):
        self._signature = inspect.signature(getattr(module, "_orig_mod", module).forward)  # that of what is compiled
        return module

    def deinitalize_hook(self, module):
        self._streams.end()
        return module

    def new_forward(self, module, *args, **kwargs):
        stream, x, answer = self._asked(module, args, kwargs)
        if answer is not None:
            return answer
        return self._answered(stream, x, self.fn_ref.original_forward(*args, **kwargs))  # which may be compiled, and this is not

    @eager
    def _asked(self, module, args, kwargs):
        """(the stream of a visit, None where there is none, its x, the forecast, None where the network is to run)."""
        given = self._signature.bind(*args, **kwargs).arguments
        x, timestep = given.get("sample", given.get("hidden_states")), given.get("timestep")
        stream = None
        if not torch.is_tensor(x) or timestep is None:
            self._streams.say(f"{type(module).__name__} takes no `sample` or `hidden_states` beside a `timestep`")
        else:
            stream = self._streams.at(id(module), timestep, given.get("encoder_hidden_states"))
        forecast = stream is not None and stream.ask(x)
        return stream, x, stream.form(stream.answer(x)) if forecast else None

    @eager
    def _answered(self, stream, x, output):
        """What the visit of ``stream`` at ``x`` gives for the network's ``output``."""
        opened = _opened(output)
        if stream is None or opened is None:
            return output
        tensor, stream.form = opened
        return stream.form(stream.answer(x, tensor))


def _opened(output):
    """(the one tensor of a network's ``output``, what makes another of its form); None where there are several."""
    if torch.is_tensor(output):
        return output, lambda tensor: tensor
    if isinstance(output, tuple) and len(output) == 1 and torch.is_tensor(output[0]):
        return output[0], lambda tensor: (tensor,)
    if isinstance(output, BaseOutput) and len(output) == 1 and torch.is_tensor(output[0]):
        (name,), made = output, type(output)
        return output[0], lambda tensor: made(**{name: tensor})
    return None


class Forecasting:
    """Makes a guider's class, mixed into it, one that asks for no run of the network where its combined output is forecast."""

    def prepare_inputs(self, data):
        return self._prepared(None, super().prepare_inputs, data)

    def prepare_inputs_from_block_state(self, data, input_fields):
        return self._prepared(getattr(data, "latents", None), super().prepare_inputs_from_block_state, data, input_fields)

    def _prepared(self, x, prepare, *given):
        self._stream = None
        if self._step >= getattr(self, "zero_init_steps", 0):  # CFG-Zero* gives nothing before
            self._stream = self._streams.at((id(self), self.num_conditions), self._timestep, guided=self)
        if self._stream is None:
            return prepare(*given)
        scaled = getattr(self._streams.scheduler, "scale_model_input", None)
        self._x = x if x is None or scaled is None else scaled(x, self._timestep)
        return [] if self._stream.ask(self._x) else prepare(*given)

    def __call__(self, data):
        stream, self._stream = self._stream, None
        if stream is None:
            return super().__call__(data)
        if not data:
            return GuiderOutput(pred=stream.answer(self._x), pred_cond=None, pred_uncond=None)
        output = super().__call__(data)
        output.pred = stream.answer(self._x, output.pred)
        return output

    def leave(self):
        """Be a guider of the class that it was."""
        self._streams.end()
        for name in {"_streams", "_stream", "_x"} & vars(self).keys():
            delattr(self, name)
        self.__class__ = type(self).__bases__[1]

    def new(self, **kwargs):
        made = super().new(**kwargs)
        made._streams = self._streams
        return made


@cache
def _forecasting(wrapped):
    """The subclass of the guider class ``wrapped`` that forecasts; of the same name, by which guiders are saved."""
    return type(wrapped.__name__, (Forecasting, wrapped), {"__module__": wrapped.__module__, "__doc__": wrapped.__doc__})
