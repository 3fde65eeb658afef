"""The shim: lets a guider answer in the denoiser's place, without changing a line of the host.

Hosts call ``denoiser(*guider.prepare_inputs(...))`` unconditionally, so a guider alone cannot skip. Three methods of the
host's sampler base class are wrapped, and act only where ``sampler.guider`` is a ``Skipping`` one:

    prepare_sampling_loop   tells the guider that a run begins, and its schedule
    get_sigma_gen           tells it which step is being taken, and that the run has ended
    denoise                 passes on a gated denoiser, so that the host's own method runs as it is
"""

import functools
import threading

from .hosts import loaded_hosts

_originals = {}  # (class, method name) -> the host's own function
_lock = threading.RLock()


class Skipping:
    """What the shim asks of a guider."""

    def begin(self, sigmas):
        """A run begins, with the schedule ``sigmas`` (a 1-d tensor that ends where sampling ends)."""
        raise NotImplementedError

    def at_step(self, step):
        """The sampler takes step ``step`` next."""
        raise NotImplementedError

    def end(self):
        """The run is over, be it with an image or with an exception."""
        raise NotImplementedError

    def gated(self, denoiser):
        """Context manager: a denoiser that is called only where the guider wants it. Gating twice is gating once."""
        raise NotImplementedError


class _Steps:
    """The host's step generator, reporting to the guider. Keeps ``len``, so that a progress bar still knows its total."""

    def __init__(self, steps, guider):
        self.steps, self.guider = steps, guider

    def __len__(self):
        return len(self.steps)

    def __iter__(self):
        try:
            for step in self.steps:
                self.guider.at_step(step)
                yield step
        finally:
            self.guider.end()


def _wrap_prepare_sampling_loop(original):
    @functools.wraps(original)
    def prepare_sampling_loop(self, *args, **kwargs):
        prepared = original(self, *args, **kwargs)
        if isinstance(self.guider, Skipping):
            self.guider.begin(prepared[2])
        return prepared

    return prepare_sampling_loop


def _wrap_get_sigma_gen(original):
    @functools.wraps(original)
    def get_sigma_gen(self, *args, **kwargs):
        steps = original(self, *args, **kwargs)
        return _Steps(steps, self.guider) if isinstance(self.guider, Skipping) else steps

    return get_sigma_gen


def _wrap_gated(original, position):
    """Gate the argument ``denoiser`` of a method, which stands at ``position`` after self."""

    @functools.wraps(original)
    def gated(self, *args, **kwargs):
        if not isinstance(self.guider, Skipping):
            return original(self, *args, **kwargs)
        named = "denoiser" in kwargs
        with self.guider.gated(kwargs["denoiser"] if named else args[position]) as denoiser:
            if named:
                return original(self, *args, **{**kwargs, "denoiser": denoiser})
            return original(self, *args[:position], denoiser, *args[position + 1 :], **kwargs)

    return gated


_WRAPPERS = {
    "prepare_sampling_loop": _wrap_prepare_sampling_loop,
    "get_sigma_gen": _wrap_get_sigma_gen,
    "denoise": functools.partial(_wrap_gated, position=1),
    "__call__": functools.partial(_wrap_gated, position=0),
}
_BASE_METHODS = ("prepare_sampling_loop", "get_sigma_gen", "denoise")


def _wrap(cls, name):
    with _lock:
        if (cls, name) not in _originals:
            _originals[cls, name] = vars(cls)[name]
            setattr(cls, name, _WRAPPERS[name](_originals[cls, name]))


def install(host=None):
    """Wrap the samplers of ``host``, or of every known host that is loaded. Doing it twice changes nothing."""
    for host in loaded_hosts() if host is None else [host]:
        base = host.sampler_class(host.base)
        for name in _BASE_METHODS:
            _wrap(base, name)
        for name in host.unusual:
            if cls := host.sampler_class(name):
                _wrap(cls, "__call__")


def attach(sampler):
    """Wrap the classes of one ``sampler``, for a host that is not known. Raises TypeError where it is not of the family."""
    for name in _BASE_METHODS:
        owners = [cls for cls in type(sampler).__mro__ if name in vars(cls)]
        if not owners and name == "denoise":
            raise TypeError(f"{type(sampler).__name__} has no method `denoise`: not a sampler of the sgm family")
        for cls in owners:
            _wrap(cls, name)


def uninstall():
    """Give every wrapped class its own methods back."""
    with _lock:
        for (cls, name), original in _originals.items():
            setattr(cls, name, original)
        _originals.clear()
