"""Hooks that cache the outputs of a network's modules and forecast them by TaylorSeer's recurrence (arXiv 2503.06923).

diffusers' (``apply_taylorseer_cache``, 0.42) where that package is: it takes any list of modules; our plan stands in the place of
its interval, and factors are of the network's dtype instead of bfloat16. Otherwise our own, of the same recurrence.
"""

from functools import partial

import torch

from .forecasts import TaylorSeer


class OwnHooks:
    """The outputs of ``modules`` cached and forecast while this context is open; ``at`` says what the next pass is."""

    package = "own"

    def __init__(self, modules, order):
        self.modules, self.order = list(modules), order
        self.step, self.full, self.states = None, True, []

    def at(self, step, full):
        """The network's next pass is of ``step``, and ``full`` or forecast."""
        self.step, self.full = step, full

    def __enter__(self):
        for module in self.modules:
            self.states.append(TaylorSeer(self.order))
            module.forward = partial(self._forward, module.forward, self.states[-1])
        return self

    def _forward(self, forward, state, *args, **kwargs):
        if not self.full:
            return state.predict(self.step, None)
        output = forward(*args, **kwargs)
        state.update(self.step, None, output)
        return output

    def __exit__(self, *error):
        self.states = []
        for module in self.modules:
            del module.forward

    def factors(self):
        """Every tensor that is held."""
        return [factor for state in self.states for factor in state.factors]

    def bytes(self):
        """What the held tensors keep in memory: each storage once, and whole where only a part of it is used."""
        return sum({s.data_ptr(): s.nbytes() for s in (factor.untyped_storage() for factor in self.factors())}.values())


class DiffusersHooks(OwnHooks):
    """``OwnHooks`` by diffusers: ``modules`` are handed over as a list of their own, so that any network is taken."""

    package = "diffusers"

    def __enter__(self):
        from diffusers.hooks import TaylorSeerCacheConfig, apply_taylorseer_cache
        from diffusers.hooks.hooks import CacheContext

        dtype = next(weight.dtype for module in self.modules for weight in module.parameters())
        settings = {"max_order": self.order, "taylor_factors_dtype": dtype}
        apply_taylorseer_cache(torch.nn.ModuleList(self.modules), TaylorSeerCacheConfig(cache_identifiers=[r"\d+"], **settings))
        for module in self.modules:
            hook = module._diffusers_hook.get_hook("taylorseer_cache")
            hook.state_manager.set_context(CacheContext("run"))
            self.states.append(hook.state_manager.get_state())
            hook._measure_should_compute = partial(self._decide, self.states[-1])
        return self

    def _decide(self, state):
        state.current_step = self.step
        return self.full, state

    def __exit__(self, *error):
        for state in self.states:
            state.reset()
        super().__exit__(*error)
        for module in self.modules:
            del module._diffusers_hook

    def factors(self):
        return [factor for state in self.states for orders in state.taylor_factors.values() for factor in orders.values()]


def best_hooks():
    """The hooks that can be had here."""
    try:
        from diffusers.hooks import TaylorSeerCacheConfig  # noqa: F401
        from diffusers.hooks.hooks import CacheContext  # noqa: F401
    except ImportError:
        return OwnHooks
    return DiffusersHooks
