"""Which nodes of a schedule are activated. Sigmas in, bools out; no tensors."""


def plan(sigmas, *, interval=1, warmup=1, tail=0, activate=None, step_threshold=None):
    """For each of ``sigmas`` (floats, in the order they are visited), whether the denoiser is called there.

    ``activate`` lists the indices outright and wins over ``interval``, ``warmup`` and ``tail``. Otherwise the first ``warmup``
    and last ``tail`` nodes are activated, and every ``interval``-th one counted from the last of the warmup.
    ``step_threshold`` also activates a node whose sigma is further than that from the newest activated one.
    Raises ValueError for an index that the schedule does not have.
    """
    count = len(sigmas)
    if activate is None:
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
