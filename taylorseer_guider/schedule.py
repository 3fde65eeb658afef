"""A run's schedule: what its keys stand for, which node a visit is at, and which nodes are called. Floats in, bools out."""

import math
from itertools import pairwise
from statistics import NormalDist

import torch

from .forecast import RHO

TURNS = NormalDist(0, 2.25)  # log(sigma) at which a denoiser's outputs turn
EVEN = 0.4
LARGEST = 1e6  # sigma beyond which all is noise: schedules of alphas begin at infinity
NEAR = 1e-5  # relative distance below which two sigmas are one: samplers reach a node by way of logarithms, too
ROUNDED = 4 * torch.finfo(torch.bfloat16).eps  # the same where hosts hand them over in the dtype of x


class Schedule:
    """The keys of a run, in the order in which a sampler visits them, and the sigmas that they stand for.

    ``keys`` (1-d tensor, on any device; read once) are sigmas, or, where the sampler is ``rising``, square roots of
    alpha_cumprod, the share of the image in a variance-preserving x: sigma is sqrt(1 - key^2) / key, infinite at the key 0 of
    pure noise, and the last key ends the schedule without being visited. ``nodes`` are the sigmas that may be called.
    """

    def __init__(self, keys, rising=False):
        self._keys = keys.detach().double().cpu()
        self.rising, self.keys = rising, self._keys.tolist()
        self.sigmas = [self.sigma(key) for key in self.keys]
        self.nodes = self.sigmas[:-1] if rising else [sigma for sigma in self.sigmas if sigma > 0]
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
        return (*self.nodes, 0.0)[node + 1]

    def is_at(self, node, sigma):
        """Whether ``sigma`` is that of ``node`` (None: of no node), but for what a host's dtype has rounded off."""
        return node is not None and math.isclose(sigma, self.nodes[node], rel_tol=ROUNDED)

    def rounded(self, dtype):
        """The keys as a host of ``dtype`` hands them over."""
        if dtype not in self._rounded:
            keys = self._keys.to(dtype).tolist()
            self._rounded[dtype] = keys, {key: i for i, key in reversed(list(enumerate(keys[: len(self.nodes)])))}
        return self._rounded[dtype][0]

    def node(self, key, dtype, step):
        """Index of the node that ``key`` is, or of the step that contains it; None where the run has no such step.

        ``step`` is the one that the sampler has announced, None where it announces none.
        """
        keys = self.rounded(dtype)
        if (exact := self._rounded[dtype][1].get(key)) is not None:
            return exact
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


def plan(sigmas, *, interval=1, warmup=1, tail=0, nodes=None, step_threshold=None, calls=None):
    """For each of ``sigmas`` (floats, in the order they are visited), whether the denoiser is called there.

    ``nodes`` lists the indices outright, ``calls`` says how many to ``spread``; both win over ``interval``, ``warmup`` and
    ``tail``. Otherwise the first ``warmup`` and last ``tail`` nodes are activated, and every ``interval``-th one counted from
    the last of the warmup.
    ``step_threshold`` also activates a node whose sigma is further than that from the newest activated one.
    Raises ValueError for an index, or a number of calls, that the schedule does not have.
    """
    count = len(sigmas)
    if calls is not None:
        chosen = set(spread(sigmas, calls))
    elif nodes is None:
        first = max(warmup - 1, 0)
        chosen = {i for i in range(count) if i < warmup or i >= count - tail or (i - first) % interval == 0}
    else:
        chosen = set(nodes)
        if beyond := sorted(chosen.difference(range(count))):
            raise ValueError(f"plan.nodes={beyond}: this schedule has nodes 0 to {count - 1}; leave out the others")
    active, newest = [], None
    for i, sigma in enumerate(sigmas):
        far = step_threshold is not None and newest is not None and abs(sigma - newest) > step_threshold
        active.append(i in chosen or far)
        newest = sigma if active[-1] else newest
    return tuple(active)


def spread(sigmas, calls):
    """``calls`` of the nodes, as indices: the first one, then those that leave the least sum of squared gaps.

    A gap is a difference of ``above``, which is steep where outputs turn; the last one goes from the last call to half of the
    last sigma. So none is wide for want of luck in rounding. ValueError for more calls than nodes, and for sigmas that do not
    fall.
    """
    require_room(sigmas, calls)
    last = sigmas[-1] / 2
    place = torch.tensor([above(sigma, sigmas[0], last) for sigma in (*sigmas, last)], dtype=torch.float64)
    gaps = (place[:-1, None] - place).square()
    gaps.masked_fill_(torch.ones_like(gaps, dtype=torch.bool).tril(), math.inf)  # calls go on
    gaps, rest, following = gaps[:, :-1], gaps[:, -1], []  # ``rest``: the least sum from each node on
    for _ in range(calls - 1):
        rest, chosen = (gaps + rest).min(dim=1)
        following.append(chosen.tolist())
    nodes = [0]
    for chosen in reversed(following):
        nodes.append(chosen[nodes[-1]])
    return nodes


def evenly(sigmas, calls):
    """{node: the sigma to call at}: ``calls`` sigmas with even gaps, as ``spread`` measures them, each at the node nearest to it.

    The first one is the first node's, and none is below the last node's. ValueErrors as those of ``spread``.
    """
    require_room(sigmas, calls)
    first, last = sigmas[0], sigmas[-1] / 2
    top, bottom, lowest = (above(sigma, first, last) for sigma in (first, last, sigmas[-1]))
    gap = min((top - bottom) / calls, (top - lowest) / max(calls - 1, 1))
    found = [first, *(_sigma_at(top - n * gap, first, last) for n in range(1, calls))]
    return dict(zip(nearest(sigmas, found), found, strict=True))


def _sigma_at(wanted, first, last):
    """Which sigma ``above`` puts there, by halving."""
    near, far = math.log(min(first, LARGEST)), math.log(last)
    while near - far > NEAR:
        middle = (near + far) / 2
        near, far = (middle, far) if above(math.exp(middle), first, last) > wanted else (near, middle)
    return math.exp(near)


def with_calls(sigmas, called):
    """(``sigmas``, falling to 0, with those that are ``called``, by node, in the place of their nodes', the indices of these)."""
    others = [sigma for node, sigma in enumerate(sigmas) if node not in called]
    merged = sorted({*others, *called.values()}, reverse=True)
    return tuple(merged), sorted(merged.index(sigma) for sigma in called.values())


def require_room(sigmas, calls):
    """Raise ValueError where ``calls`` cannot be spread over ``sigmas``."""
    if calls > len(sigmas):
        raise ValueError(f"calls={calls}: this schedule has {len(sigmas)} nodes; give 1 to {len(sigmas)}")
    if not all(a >= b >= 0 for a, b in pairwise(sigmas)):
        raise ValueError(f"calls={calls}: only falling sigmas can be spread over; give interval or plan.nodes")


def nearest(sigmas, wanted):
    """Indices of the ``sigmas`` nearest to those ``wanted``, in log(sigma): rising, distinct, the first one first."""
    places, never = torch.tensor(sigmas, dtype=torch.float64).log(), torch.tensor([math.inf], dtype=torch.float64)
    costs, before = torch.full_like(places, math.inf), []  # by the newest index, which index came before
    costs[0] = 0
    for each in wanted[1:]:
        least, index = costs.cummin(0)
        costs = torch.cat([never, least[:-1]]) + (places - math.log(each)).square()
        before.append([0, *index[:-1].tolist()])
    found = [int(costs.argmin())]
    for index in reversed(before):
        found.append(index[found[-1]])
    return tuple(reversed(found))


def above(sigma, first, last):
    """Where ``sigma``, between ``first`` and ``last``, stands between about 1, pure noise, and 0: by ``TURNS``, and by ``EVEN``
    evenly in sigma^(1/7), as EDM's schedule does.

    Outputs hardly change while sigma is far above the data's spread, and again where the image is settled; but how large the
    spread is, and whether data have an offset, is not known here, so some calls go everywhere.
    """
    even, top, bottom = (min(each, LARGEST) ** (1 / RHO) for each in (sigma, first, last))
    turned = TURNS.cdf(math.log(min(sigma, LARGEST))) if sigma > 0 else 0.0
    return (1 - EVEN) * turned + EVEN * (even - bottom) / (top - bottom or 1.0)
