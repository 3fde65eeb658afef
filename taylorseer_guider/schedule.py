"""A run's schedule: what its keys stand for, and which node a visit is at."""

import math

import torch

NEAR = 1e-5  # relative distance below which two sigmas are one: samplers reach a node by way of logarithms, too
ROUNDED = 4 * torch.finfo(torch.bfloat16).eps  # the same where hosts hand them over in the dtype of x


def numbers(tensor):
    """The list of a ``tensor`` of one axis. Up to torch 2.4 ``tolist`` fails where torch.func follows it, ``item`` does not."""
    try:
        return tensor.tolist()
    except RuntimeError:
        return [each.item() for each in tensor]


class Schedule:
    """The keys of a run, in the order in which a sampler visits them, and the sigmas that they stand for.

    ``keys`` (1-d tensor, on any device; read once) are sigmas, or, where the sampler is ``rising``, square roots of
    alpha_cumprod, the share of the image in a variance-preserving x: sigma is sqrt(1 - key^2) / key, infinite at the key 0 of
    pure noise, and the last key ends the schedule without being visited. So does that of a sampler whose steps ask for one output
    each (``visits``), be it 0 or not. ``nodes`` are the sigmas that may be called.
    """

    def __init__(self, keys, rising=False, visits=None):
        self._keys = keys.detach().double().cpu()
        self.rising, self.keys = rising, numbers(self._keys)
        self.sigmas = [self.sigma(key) for key in self.keys]
        self.nodes = self.sigmas[:-1] if rising or visits == 1 else [sigma for sigma in self.sigmas if sigma > 0]
        self._rounded = {}  # dtype -> (the keys rounded to it, the index of each): hosts hand them over in the dtype of x

    def sigma(self, key):
        if not self.rising:
            return key
        return math.sqrt(max(1 - key**2, 0)) / key if key > 0 else math.inf

    def unscale(self, sigma):
        """What turns x into image + sigma * noise."""
        return math.sqrt(1 + sigma**2) if self.rising else 1.0

    def end(self, node):
        """The sigma at which the step from ``node`` ends."""
        return (*(self.nodes if self.rising else self.sigmas), 0.0)[node + 1]

    def is_at(self, node, sigma):
        """Whether ``sigma`` is that of ``node`` (None: of no node), but for what a host's dtype has rounded off."""
        return node is not None and math.isclose(sigma, self.nodes[node], rel_tol=ROUNDED)

    def rounded(self, dtype):
        """The keys as a host of ``dtype`` hands them over."""
        if dtype not in self._rounded:
            keys = numbers(self._keys.to(dtype))
            nodes = {}
            for node, key in enumerate(keys[: len(self.nodes)]):
                nodes.setdefault(key, []).append(node)
            self._rounded[dtype] = keys, nodes
        return self._rounded[dtype][0]

    def node(self, key, dtype, step):
        """Index of the node that ``key`` is, or of the step that contains it; None where the run has no such step.

        ``step`` is the one that the sampler has announced, None where it announces none.
        """
        keys = self.rounded(dtype)
        if exact := self._rounded[dtype][1].get(key):
            return step if step in exact else exact[0]
        if not self.nodes:
            return None
        near = min(range(len(self.nodes)), key=lambda i: abs(keys[i] - key))
        if abs(keys[near] - key) <= NEAR * key:
            return near
        if step is not None:
            return step
        passed = sum(sigma >= self.sigma(key) for sigma in self.sigmas)
        return min(max(passed - 1, 0), len(self.nodes) - 1)


def require_falling(schedule, sampler):
    """Raise ValueError where the keys of ``sampler`` rise and nobody knows what they are: noise falls while an image is made."""
    first = schedule.keys[:2]
    if not schedule.rising and len(first) == 2 and first[1] > first[0]:
        raise ValueError(
            f"the schedule of {type(sampler).__name__} rises (from {first[0]:.4g} to {first[1]:.4g}), and what its keys are is "
            "not known: only falling sigmas are forecast on; give use_cache: false"
        )
