"""Which nodes of a schedule are called, and at which sigmas: floats in, indices and floats out."""

import math
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

import torch

from .forecast import RHO

TURNS = NormalDist(0, 2.25)  # log(sigma) at which a denoiser's outputs turn
EVEN = 0.4  # share of the measure that is even in sigma^(1/7)
LARGEST = 1e6  # sigma beyond which all is noise: schedules of alphas begin at infinity
APART = 1e-3  # relative distance of sigmas that are two
CLOSE = 1e-6  # in log(sigma): as near as a sigma with an even gap is looked for


def plan(sigmas, *, interval=1, warmup=1, tail=0, nodes=None, step_threshold=None, calls=None):
    """For each of ``sigmas`` (floats, in the order they are visited), whether the denoiser is called there.

    ``nodes`` lists the indices outright, ``calls`` says how many to ``spread``; both win over ``interval``, ``warmup`` and
    ``tail``. Otherwise the first ``warmup`` and last ``tail`` nodes are called, and every ``interval``-th one counted from
    the last of the warmup.
    ``step_threshold`` also calls a node whose sigma is further than that from the newest one that is called.
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
    place = torch.tensor([above(sigma, sigmas[0], last) for sigma in (*sigmas, last)], dtype=torch.float64, device="cpu")
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
    return dict(_evenly(tuple(sigmas), calls))


@lru_cache(maxsize=256)  # every picture of a schedule asks alike
def _evenly(sigmas, calls):
    require_room(sigmas, calls)
    sigmas = [sigma for sigma in sigmas if sigma]  # nothing is forecast at 0
    require_room(sigmas, calls)
    first, last = sigmas[0], sigmas[-1] / 2
    top, bottom, lowest = (above(sigma, first, last) for sigma in (first, last, sigmas[-1]))
    gap = min((top - bottom) / calls, (top - lowest) / max(calls - 1, 1))
    found = [first, *(_sigma_at(top - n * gap, first, last) for n in range(1, calls))]
    return tuple(zip(nearest(sigmas, found), found, strict=True))


def _sigma_at(wanted, first, last):
    """Which sigma ``above`` puts there, by halving."""
    near, far = math.log(min(first, LARGEST)), math.log(last)
    while near - far > CLOSE:
        middle = (near + far) / 2
        near, far = (middle, far) if above(math.exp(middle), first, last) > wanted else (near, middle)
    return math.exp(near)


def with_calls(sigmas, called):
    """(``sigmas``, falling to 0, with those that are ``called``, by node, in the place of their nodes', the indices of these).

    The last node stays, where the call is above it: it is at its sigma that a run ends.
    """
    last = len(sigmas) - 2
    ends = last in called and called[last] > sigmas[last] * (1 + APART)
    others = [sigma for node, sigma in enumerate(sigmas) if node not in called or (node == last and ends)]
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
    places = torch.tensor([math.log(sigma) for sigma in sigmas], dtype=torch.float64, device="cpu")
    never = torch.full((1,), math.inf, dtype=torch.float64, device="cpu")
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
