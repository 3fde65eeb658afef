"""What is sampled: each workload a module with ``held_out(scale, count)`` and ``training(scale, count)``."""

from .base import FULL_CALLS, NODES, Workload, host, own_guider, sampler_of

__all__ = ["FULL_CALLS", "NODES", "Workload", "host", "own_guider", "sampler_of"]
