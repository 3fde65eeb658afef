"""The shim: lets a guider answer in the denoiser's place, without changing a line of the host.

Hosts call ``denoiser(*guider.prepare_inputs(...))`` unconditionally, so a guider alone cannot skip. Four methods of the
host's sampler classes are wrapped, and act only where ``sampler.guider`` is a ``Skipping`` one:

    prepare_sampling_loop   tells the guider that a run begins, and its schedule
    get_sigma_gen           tells it which step is being taken, and that the run has ended
    denoise, __call__       pass on a gated denoiser, so that the host's own method runs as it is
"""

import functools
import inspect
import threading

from .hosts import loaded_hosts

_originals = {}  # (class, method name) -> the host's own function
_lock = threading.RLock()


class Skipping:
    """What the shim asks of a guider."""

    report = None  # of the run that began last: another object for each run

    def begin(self, sigmas, sampler=None):
        """A run of ``sampler`` begins, with the schedule ``sigmas`` (a 1-d tensor that ends where sampling ends)."""
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
        run = self.guider.report
        try:
            for step in self.steps:
                self.guider.at_step(step)
                yield step
        finally:
            if self.guider.report is run:  # an abandoned loop may be collected when the next run is under way
                self.guider.end()


def _wrap_prepare_sampling_loop(original):
    @functools.wraps(original)
    def prepare_sampling_loop(self, *args, **kwargs):
        prepared = original(self, *args, **kwargs)
        if isinstance(self.guider, Skipping):
            self.guider.begin(prepared[2], self)
        return prepared

    return prepare_sampling_loop


def _wrap_get_sigma_gen(original):
    @functools.wraps(original)
    def get_sigma_gen(self, *args, **kwargs):
        steps = original(self, *args, **kwargs)
        return _Steps(steps, self.guider) if isinstance(self.guider, Skipping) else steps

    return get_sigma_gen


def _wrap_gated(original):
    """Gate the argument ``denoiser`` of a method, wherever it stands; a method without one stays as it is."""
    signature = inspect.signature(original)
    if "denoiser" not in signature.parameters:
        return original

    @functools.wraps(original)
    def gated(self, *args, **kwargs):
        if not isinstance(self.guider, Skipping):
            return original(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        with self.guider.gated(bound.arguments["denoiser"]) as bound.arguments["denoiser"]:
            return original(*bound.args, **bound.kwargs)

    return gated


_WRAPPERS = {
    "prepare_sampling_loop": _wrap_prepare_sampling_loop,
    "get_sigma_gen": _wrap_get_sigma_gen,
    "denoise": _wrap_gated,
    "__call__": _wrap_gated,
}


def _wrap(cls):
    """Wrap the methods that ``cls`` itself defines."""
    with _lock:
        for name in _WRAPPERS.keys() & vars(cls).keys():
            if (cls, name) not in _originals:
                _originals[cls, name] = vars(cls)[name]
                setattr(cls, name, _WRAPPERS[name](_originals[cls, name]))


def _family(cls):
    """``cls`` and every class that inherits from it: a subclass may override what the base was wrapped for."""
    yield cls
    for subclass in cls.__subclasses__():
        yield from _family(subclass)


def install(host=None):
    """Wrap the samplers of ``host``, or of every known host that is loaded. Doing it twice changes nothing."""
    for host in loaded_hosts() if host is None else [host]:
        for cls in _family(host.sampler_base()):
            _wrap(cls)


def attach(sampler):
    """Wrap the classes of one ``sampler``, for a host that is not known. Raises TypeError where it is not of the family."""
    if not hasattr(sampler, "denoise"):
        raise TypeError(f"{type(sampler).__name__} has no method `denoise`: not a sampler of the sgm family")
    for cls in type(sampler).__mro__:
        _wrap(cls)


def uninstall():
    """Give every wrapped class its own methods back."""
    with _lock:
        for (cls, name), original in _originals.items():
            setattr(cls, name, original)
        _originals.clear()
