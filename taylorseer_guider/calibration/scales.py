"""Weights that follow the guidance scale: a polynomial in it, told by its values at a few scales.

    w(s) = sum_k L_k(s) w_k,        L_k the Lagrange polynomials of the scales s_0 .. s_d that weights are told for

The guided output is linear in its branches with the scale as a factor, so where the branches follow the scale little, as they do,
w is nearly a line. A regressor v_j of a run at scale s stands in the system as d + 1 of them, L_k(s) v_j, whose weights w_kj are
solved over runs at all scales at once.
"""

import math
from collections.abc import Iterable, Mapping

import torch

from ..calibration_file import MOST_SCALES


def told_for(scales, degree):
    """The ``degree + 1`` scales, evenly over the range of ``scales``, whose weights tell all others."""
    low, high = min(scales), max(scales)
    return (*(low + (high - low) * k / degree for k in range(degree)), high)


def scales_to_walk(own, scales, degree):
    """(the scales to walk at, those that weights are told for), each rising; of None the guider's ``own`` alone.

    ValueError for what cannot be asked for.
    """
    if scales is None:
        return [own], (float(own),)
    if not isinstance(scales, Iterable) or isinstance(scales, (str, Mapping)):
        raise ValueError(f"scales={scales!r}: give a list of two or more; for one scale, build the guider with it")
    try:
        given = list(scales)
        if any(isinstance(scale, (str, bool)) for scale in given):
            raise TypeError
        scales = sorted({float(scale) for scale in given})
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"scales={scales!r}: give numbers above 0, such as [1.5, 2, 3]") from None
    if len(scales) < 2 or not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"scales={scales}: give two or more different numbers above 0; for one scale, build the guider with it")
    most = min(len(scales), MOST_SCALES) - 1
    if isinstance(degree, bool) or not isinstance(degree, int) or not 1 <= degree <= most:
        raise ValueError(f"degree={degree!r}: give a whole number from 1 to {most}, with {len(scales)} scales")
    return scales, told_for(scales, degree)


def opened(probes, scales, gradient):
    """(the first guided output, how many branches outputs have, whether a gradient goes to sigma).

    ValueError where several scales cannot be told apart, and where a ``gradient`` is wanted and the denoiser lets none through.
    """
    found = [probe.opening(gradient) for probe in probes[: len(scales)]]
    branches = {count for _, count, _ in found}
    if len(scales) > 1 and branches != {2}:
        raise ValueError(
            f"scales={scales}: the guided output is not uncond + scale (cond - uncond) of one doubled batch at each of them; "
            "build the guider with a scale other than 0 and 1, or calibrate every scale on its own"
        )
    return found[0][0], min(branches), all(follows for *_, follows in found)


def mixing(shares, count, parts):
    """(n, len(shares) n), n = ``count * parts``: turns the weights of a row, as its file holds them, into those of one scale.

    ``shares`` are the L_k of that scale, ``count`` the regressors of a part; a row with ``low`` has two ``parts``.
    """
    eye = torch.eye(count, dtype=torch.float64, device="cpu")
    return torch.block_diag(*[torch.cat([share * eye for share in shares], 1)] * parts)


def branched(weights, scale, branches):
    """``weights`` of guided outputs as those of their ``branches`` at a guidance ``scale``, uncond first."""
    shares = (1 - scale, scale) if branches == 2 else (1.0,)
    return [weight * share for weight in weights for share in shares]


def widened(grams, shares, parts, targets=1):
    """Gram matrices (B, m, m) of regressors and, last, ``targets`` of runs at one scale, as those of the regressors L_k v_j."""
    if len(shares) == 1:
        return grams
    mixed = mixing(shares, (grams.shape[-1] - targets) // parts, parts)
    matrix = torch.block_diag(mixed, *[torch.ones(1, 1, dtype=torch.float64, device="cpu")] * targets)
    return matrix.T @ grams @ matrix
