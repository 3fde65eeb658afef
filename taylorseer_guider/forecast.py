"""Forecasting a denoised output from earlier ones: coordinates, weights (Python floats), block means and the one weighted sum.

Whatever the basis, a forecast is linear in the outputs it is made from,

    D_hat(sigma) = sum_j w_j D_j,        w = weights(u(sigma_0 .. sigma_m), u(sigma))

so the mathematics below works on a handful of float64 scalars and the tensors are touched once, by ``weighted_sum``.
"""

import math
from itertools import zip_longest
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .finite import total_of

SIGMA_DATA = 0.5  # EDM's spread of the data
SPREAD = 2.0  # sigma below which outputs are taken to change with it, above which with its logarithm
RHO = 7  # EDM's schedule is uniform in sigma^(1/7)
CHUNK = 1 << 20  # elements that a chain of additions sums at a time on a CPU, so that partial sums stay in cache
LARGE = 1 << 16  # elements from which a matrix-vector product is faster than a chain of additions
BLOCK = 4  # rows and columns that a block mean is taken over

COORDINATES = {
    "sigma": float,
    "rho": lambda sigma: sigma ** (1 / RHO),
    "log_sigma": math.log,
    "asinh": lambda sigma: math.asinh(sigma / SPREAD),  # linear below SPREAD, logarithmic above
}

# What is forecast, other than the denoised output D itself: q = (skip x - D) / out, as sigma -> (skip, out), with x = image +
# sigma * noise. Holding q lets a forecast follow x: eps wholly, v as far as Gaussian data of unit spread would, edm as far as
# data of spread SIGMA_DATA. They are what networks are trained to give, under sgm's EpsScaling, VScaling and EDMScaling.
QUANTITIES = {
    "denoised": None,
    "eps": lambda sigma: (1.0, sigma),
    "v": lambda sigma: (1 / (1 + sigma**2), sigma / math.sqrt(1 + sigma**2)),  # v-prediction, arXiv 2202.00512, appendix D
    "edm": lambda sigma: (SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2), sigma * SIGMA_DATA / math.hypot(SIGMA_DATA, sigma)),  # -F
}


def newton_weights(nodes, u):
    """Weights of Newton's divided-difference polynomial through ``nodes`` (distinct floats), evaluated at ``u``.

    Exact for polynomials of degree below ``len(nodes)``, whatever the spacing. Computed in Lagrange's form, which gives the
    same polynomial with less rounding.
    """
    return [math.prod((u - b) / (a - b) for b in nodes if b != a) for a in nodes]


def taylor_weights(nodes, u):
    """Weights of the truncated Taylor series of TaylorSeer (arXiv 2503.06923, eq. 6) about ``nodes[0]``, the newest.

    The j-th derivative over j! is the divided difference f[u_0 .. u_j], so uneven spacing is honoured order by order, where
    the paper divides every order by one gap. On a uniform grid both are the same.
    """
    weights = [0.0] * len(nodes)
    for order in range(len(nodes)):
        known = nodes[: order + 1]
        for i, a in enumerate(known):
            weights[i] += (u - nodes[0]) ** order / math.prod(a - b for b in known if b != a)
    return weights


BASES = {"newton": newton_weights, "taylor": taylor_weights}


def distinct(nodes, count):
    """Indices of the first ``count`` nodes that stand apart, so that no difference divides by (nearly) zero.

    That is relative; beside zero, products of differences are kept away from the smallest floats.
    """
    chosen = []
    for i, node in enumerate(nodes):
        scale = max([abs(node), *(abs(nodes[j]) for j in chosen)])
        apart = all(abs(node - nodes[j]) > max(1e-6 * scale, 1e-30) for j in chosen)
        if apart and len(chosen) < count:
            chosen.append(i)
    return chosen


def placed(indices, weights, count):
    """``count`` floats: the ``weights`` at ``indices``, and zeros."""
    found = [0.0] * count
    for index, weight in zip(indices, weights, strict=True):
        found[index] = weight
    return found


def weighted_sum(weights, tensors, dtype=None, bands=None, out=None, totals=None):
    """``sum_j weights[j] * tensors[j]`` in one pass over memory, contiguous and without gradient: in ``out``, or a new tensor.

    ``tensors`` share shape and device and are only read; half types are accumulated in float32. The result has ``dtype``,
    or that of ``tensors[0]``. ``bands`` (n, 1, W), if given, are added to the sum seen as n bands of as many rows of length W.
    The list ``totals``, if given, is told the total of each part of the result while it is in cache.
    """
    first = tensors[0]
    with torch.no_grad():
        if out is None:
            out = torch.empty(first.shape, dtype=dtype or first.dtype, device=first.device)
        whole = bands is None and out.is_contiguous()
        if whole and (found := _matrix(tensors, out.dtype)):
            torch.mv(found[0], _placed_as(weights, found), out=out.view(-1))
            if totals is not None:
                totals.append(total_of(out))
            return out
        apart = out.device.type == "cpu" and out.numel() > CHUNK and out.is_contiguous()  # else its parts would be copies
        if not apart or _matrix(tensors[1:], first.dtype):
            _add_up(out, weights, tensors, bands, totals)
            return out
        shape = (-1,) if bands is None else (len(bands), -1, bands.shape[-1])
        seen = [tensor.reshape(shape) for tensor in (out, *tensors)] + ([] if bands is None else [bands])
        step = max(CHUNK * len(seen[0]) // max(out.numel(), 1), 1)
        for place, *parts in zip(*(t.split(step) for t in seen), strict=True):
            _add_up(place, weights, parts[: len(tensors)], None if bands is None else parts[-1], totals)
    return out


def _add_up(place, weights, tensors, band, totals):
    """The weighted sum, and ``band``, into ``place``; in float64 where a tensor is, else in float32."""
    wide = torch.float64 if torch.float64 in [tensor.dtype for tensor in tensors] else torch.float32
    newest, *others = tensors
    in_place = place.dtype == newest.dtype == wide
    newest, total = newest if newest.dtype == wide else newest.to(wide), place if in_place else None
    if band is None:
        total = torch.mul(newest, weights[0], out=total)
    else:
        shape = (len(band), -1, band.shape[-1])
        seen = total if total is None else total.view(shape)
        total = torch.add(band.to(wide), newest.reshape(shape), alpha=weights[0], out=seen).view(place.shape)
    if total.is_contiguous() and (found := _matrix(others, wide)) is not None:
        total.view(-1).addmv_(found[0], _placed_as(weights[1:], found))
    else:
        for weight, tensor in zip(weights[1:], others, strict=True):
            total.add_(tensor, alpha=weight)
    if not in_place:
        place.copy_(total)
    if totals is not None:
        totals.append(total_of(place))


def _matrix(tensors, dtype):
    """(a matrix whose columns are ``tensors`` in memory's order, that order) where they are large and lie so on a CPU, or None.

    A product with it reads them all at once, where a chain of additions reads and writes the sum for each. Of half types there is
    none: they are added up wider.
    """
    if len(tensors) < 2 or tensors[0].numel() < LARGE or dtype not in (torch.float32, torch.float64):
        return None
    if any(tensor.dtype != dtype or tensor.device.type != "cpu" for tensor in tensors):
        return None
    places = [tensor.storage_offset() for tensor in tensors]
    order = sorted(range(len(tensors)), key=places.__getitem__)
    first, gap = tensors[order[0]], places[order[1]] - places[order[0]]
    even = gap >= first.numel() and all(places[i] == places[order[0]] + n * gap for n, i in enumerate(order))
    if not even or not all(tensor.is_contiguous() for tensor in tensors):
        return None
    if len({tensor.untyped_storage().data_ptr() for tensor in tensors}) > 1:
        return None
    return first.as_strided((first.numel(), len(tensors)), (1, gap)), order


def _placed_as(weights, found):
    """``weights`` as a vector in the order of the columns of a ``_matrix`` that was ``found``."""
    matrix, order = found
    return torch.tensor([weights[i] for i in order], dtype=matrix.dtype, device="cpu")


class Weights(NamedTuple):
    """A weighted sum to be made: ``sum_j weight_j * tensor_j``."""

    x: float  # of the x of the visit
    outputs: tuple[float, ...]  # of the branches of held outputs, newest output first; trailing zeros may be left out
    means: tuple[float, ...]  # of the 4x4 block means of the same tensors, x first; () where none are weighed
    order: int  # outputs that it is made from, less one
    size: float  # sum of |weights| of the outputs: how much errors of theirs are amplified
    error: float | None = None  # to expect, where that is known


def weigh(weights, x, outputs, means, dtype, out=None, totals=None):
    """The weighted sum that ``weights`` (a ``Weights``) ask for: of ``x``, held ``outputs`` and, where weighed, block means.

    ``outputs`` are the branches of all held outputs, newest first, ``means`` their block means; what has weight 0 is not read,
    but where that makes one product of the others. ``out`` and ``totals`` are those of ``weighted_sum``.
    """
    pairs = [(weights.x, x)] if weights.x else []
    factors, tensors = zip(*pairs, *_evened(weights.outputs, outputs), strict=True)
    if not weights.means:
        return weighted_sum(factors, tensors, dtype, out=out, totals=totals)
    low = weighted_sum(weights.means, [block_means(x), *means])
    whole = x.shape[-2] % BLOCK == 0  # then a row of means serves four rows of x as it is
    bands = (_widened if whole else filled)(low, x.shape).reshape(-1, 1, x.shape[-1])
    return weighted_sum(factors, tensors, dtype, bands, out, totals)


def nonzero(pairs):
    """(weights, tensors) of those ``pairs`` of the two whose weight is not 0."""
    return zip(*[pair for pair in pairs if pair[0]], strict=True)


def _evened(weights, outputs):
    """(weight, output) of those whose weight is not 0, or of all, where they lie so in memory that only all make one product.

    A chain of n additions reads and writes 3 n - 1 tensors, a product of n outputs n + 1.
    """
    pairs = [pair for pair in zip(weights, outputs, strict=False) if pair[0]]
    used = [output for _, output in pairs]
    worth = len(used) < len(outputs) < 3 * len(used) - 2
    if worth and not _matrix(used, used[0].dtype) and _matrix(outputs, used[0].dtype):
        return list(zip_longest(weights, outputs, fillvalue=0.0))
    return pairs


def block_means(tensor):
    """Means over blocks of 4x4 of the last two axes (fewer at the edges): (..., H, W) -> (..., ceil(H / 4), ceil(W / 4))."""
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    if tensor.shape[-2] % BLOCK or tensor.shape[-1] % BLOCK or tensor.numel() < LARGE:
        flat = tensor.reshape(-1, 1, *tensor.shape[-2:])
        low = F.avg_pool2d(flat, BLOCK, ceil_mode=True, count_include_pad=False)
        return low.reshape(*tensor.shape[:-2], *low.shape[-2:])
    rows = tensor.unflatten(-2, (-1, BLOCK)).sum(-2)
    first, second, *others = rows.unflatten(-1, (-1, BLOCK)).unbind(-1)  # strided: on a CPU in half of the time of `sum`
    total = first + second
    for other in others:
        total.add_(other)
    return total.div_(BLOCK**2)


def filled(means, shape):
    """The inverse of ``block_means`` up to detail: every mean fills its block. Returns a tensor of ``shape``."""
    return _widened(means, shape).repeat_interleave(BLOCK, -2)[..., : shape[-2], :]


def _widened(means, shape):
    wide = means.repeat_interleave(BLOCK, -1)
    return wide if wide.shape[-1] == shape[-1] else wide[..., : shape[-1]]
