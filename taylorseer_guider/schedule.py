"""Which nodes of a schedule are activated. Sigmas in, bools out; no tensors."""

import math
from itertools import accumulate, pairwise
from statistics import NormalDist

TURNS = NormalDist(-0.25, 2.25)  # log(sigma) at which a denoiser's outputs turn: where `spread` puts the calls
FLOOR = 1e-9  # share of a node that lies far from all of it


def plan(sigmas, *, interval=1, warmup=1, tail=0, activate=None, step_threshold=None, calls=None):
    """For each of ``sigmas`` (floats, in the order they are visited), whether the denoiser is called there.

    ``activate`` lists the indices outright, ``calls`` says how many to ``spread``; both win over ``interval``, ``warmup`` and
    ``tail``. Otherwise the first ``warmup`` and last ``tail`` nodes are activated, and every ``interval``-th one counted from
    the last of the warmup.
    ``step_threshold`` also activates a node whose sigma is further than that from the newest activated one.
    Raises ValueError for an index, or a number of calls, that the schedule does not have.
    """
    count = len(sigmas)
    if calls is not None:
        chosen = set(spread(sigmas, calls))
    elif activate is None:
        first = max(warmup - 1, 0)
        chosen = {i for i in range(count) if i < warmup or i >= count - tail or (i - first) % interval == 0}
    else:
        chosen = set(activate)
        if beyond := sorted(chosen.difference(range(count))):
            raise ValueError(f"activate={beyond}: this schedule has nodes 0 to {count - 1}; leave out the others")
    active, newest = [], None
    for i, sigma in enumerate(sigmas):
        far = step_threshold is not None and newest is not None and abs(sigma - newest) > step_threshold
        active.append(i in chosen or far)
        newest = sigma if active[-1] else newest
    return tuple(active)


def spread(sigmas, calls):
    """``calls`` of the nodes, as indices: the first one, then as densely as outputs turn, which is normal in log(sigma).

    Outputs hardly change while sigma is far above the data's spread, and again where the image is settled. ``TURNS`` is the best
    of several tried on the embedded model's training photographs; calibrated plans put their calls there, too. ValueError for
    more calls than nodes.
    """
    if calls > len(sigmas):
        raise ValueError(f"calls={calls}: this schedule has {len(sigmas)} nodes; give 1 to {len(sigmas)}")
    above = [TURNS.cdf(math.log(a) / 2 + math.log(b) / 2) for a, b in pairwise(sigmas)] + [TURNS.cdf(math.log(sigmas[-1]))]
    shares = [a - b + FLOOR for a, b in pairwise(above)]  # of every node but the first
    left, rest = calls - 1, sorted(shares)
    while rest and rest[-1] * left >= sum(rest):  # a node that more than one call would fall on takes one
        rest.pop()
        left -= 1
    scale = left / sum(rest) if rest else math.inf
    passed = [math.floor(total + 0.5) for total in accumulate((min(1.0, scale * share) for share in shares), initial=0.0)]
    return [0, *(i for i, (before, after) in enumerate(pairwise(passed), start=1) if after > before)]
