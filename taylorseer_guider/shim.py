"""The shim: lets a guider answer in the denoiser's place, without changing a line of the host.

Hosts call ``denoiser(*guider.prepare_inputs(...))`` unconditionally, so a guider alone cannot skip. Four methods of the
host's sampler classes are wrapped, and act only where ``sampler.guider`` is a ``Skipping`` one:

    prepare_sampling_loop   begins a run, with its schedule
    get_sigma_gen           announces which step is being taken, and that the run has ended
    denoise, __call__       pass on a gated denoiser, so that the host's own method runs as it is
"""

import functools
import inspect
import threading

import torch

from . import loops, visits
from .hosts import Host, loaded_hosts

BOUND = functools.partialmethod, staticmethod, classmethod  # which say nothing of their arguments, or have no sampler
_originals = {}  # (class, method name) -> the host's own function, None where it had none
_lock = threading.RLock()


class Skipping:
    """A guider whose samplers are to be wrapped: a ``policy.Owner`` that also has ``policy(schedule, sampler, dtype, x)`` for the
    runs that begin, and ``opens(run, method, args, kwargs)`` for what a run asks first.
    """

    shares_plan = False


def _skips(sampler):
    """Whether ``sampler`` has a guider whose samplers are to be wrapped. It may have none: any class can be in its family."""
    return isinstance(getattr(sampler, "guider", None), Skipping)


def _wrap_prepare_sampling_loop(original):
    @functools.wraps(original)
    def prepare_sampling_loop(self, *args, **kwargs):
        if not _skips(self):
            return original(self, *args, **kwargs)
        before = loops.open_runs(self.guider)
        prepared = original(self, *args, **kwargs)
        loops.forget(self, before)  # of a base class whose method this one called
        run = loops.begin(self.guider, prepared[2], self, prepared[0])
        if run.called:
            return prepared
        s_in, sigmas = loops.owned(run, prepared[1:3])
        return (prepared[0], s_in, sigmas, *prepared[3:])

    return prepare_sampling_loop


def _wrap_get_sigma_gen(original):
    @functools.wraps(original)
    def get_sigma_gen(self, num_sigmas, *args, **kwargs):
        steps = original(self, num_sigmas, *args, **kwargs)
        return loops.claimed(steps, self.guider, self, num_sigmas) if _skips(self) else steps

    return get_sigma_gen


def _wrap_gated(original):
    """Gate the argument ``denoiser`` of a method, wherever it stands; a method without one stays as it is."""
    names = list(inspect.signature(original).parameters)
    if "denoiser" not in names:
        return original
    place = names.index("denoiser") - 1  # among the arguments behind self

    @functools.wraps(original)
    def gated(self, *args, **kwargs):
        given = place < len(args) or "denoiser" in kwargs  # else the host's own method says what is missing
        if not given or not _skips(self):
            return original(self, *args, **kwargs)
        with visits.gated(self.guider, args[place] if place < len(args) else kwargs["denoiser"]) as gate:
            if place < len(args):
                return original(self, *args[:place], gate, *args[place + 1 :], **kwargs)
            return original(self, *args, **{**kwargs, "denoiser": gate})

    return gated


def _wrap_call(original):
    gated = _wrap_gated(original)

    @functools.wraps(original)
    def call(self, *args, **kwargs):
        if not _skips(self) or loops.is_calling(self):
            return gated(self, *args, **kwargs)  # a subclass whose __call__ calls its base's is one call
        with loops.calling(self) as begun:
            result = gated(self, *args, **kwargs)
        for run in begun:
            self.guider.learn_from(run)
        return result

    return call


def _wrap_denoise(original):
    gated = _wrap_gated(original)

    @functools.wraps(original)
    def denoise(self, *args, **kwargs):
        run = loops.current(self.guider) if _skips(self) else None
        if run is not None and run.sampler is self and run.opening is None:
            self.guider.opens(run, self.denoise, args, kwargs)
        return gated(self, *args, **kwargs)

    return denoise


_WRAPPERS = {
    "prepare_sampling_loop": _wrap_prepare_sampling_loop,
    "get_sigma_gen": _wrap_get_sigma_gen,
    "denoise": _wrap_denoise,
    "__call__": _wrap_call,
}


def _wrap(cls):
    """Wrap the methods that ``cls`` itself defines."""
    with _lock:
        for name in _WRAPPERS.keys() & vars(cls).keys():
            if (cls, name) not in _originals and callable(vars(cls)[name]) and not isinstance(vars(cls)[name], BOUND):
                _originals[cls, name] = vars(cls)[name]
                setattr(cls, name, _WRAPPERS[name](_originals[cls, name]))


def _wrap_later(base):
    """Have the classes that will inherit from ``base`` wrapped as they are made."""
    with _lock:
        if (base, "__init_subclass__") in _originals:
            return
        _originals[base, "__init_subclass__"] = original = vars(base).get("__init_subclass__")

        def made(cls, **kwargs):
            (original.__get__(None, cls) if original else super(base, cls).__init_subclass__)(**kwargs)
            _wrap(cls)

        base.__init_subclass__ = classmethod(made)


def _family(cls):
    """``cls`` and every class that inherits from it: a subclass may override what the base was wrapped for."""
    yield cls
    for subclass in cls.__subclasses__():
        yield from _family(subclass)


def install(host: Host | None = None) -> None:
    """Wrap the samplers of ``host``, or of every known host that is loaded. Doing it twice changes nothing."""
    for one in loaded_hosts() if host is None else [host]:
        if (base := one.sampler_base()) is not None:
            for cls in _family(base):
                _wrap(cls)
            _wrap_later(base)


def attach(sampler: object) -> None:
    """Wrap the classes of one ``sampler``, for a host that is not known. Raises TypeError where it is not of the family."""
    if not hasattr(sampler, "denoise"):
        raise TypeError(f"{type(sampler).__name__} has no method `denoise`: not a sampler of the sgm family")
    for cls in type(sampler).__mro__:
        if hasattr(cls, "denoise"):  # and not torch.nn.Module, whose __call__ is everybody's
            _wrap(cls)


def uninstall() -> None:
    """Give every wrapped class its own methods back."""
    with _lock:
        for (cls, name), original in _originals.items():
            if original is None:
                delattr(cls, name)
            else:
                setattr(cls, name, original)
        _originals.clear()


def rehearse(sampler: object, sigmas: torch.Tensor) -> None:
    """Plan a run of ``sampler`` over ``sigmas`` without sampling: ValueError where the guider's settings do not fit it."""
    if _skips(sampler):
        with loops.calling(sampler):
            loops.begin(sampler.guider, sigmas, sampler)
