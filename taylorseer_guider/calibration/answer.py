"""The fitted answer of a visit: one weighted sum of x and held outputs, and one of their 4x4 means where those are used."""

import torch
import torch.nn.functional as F

from ..forecast import weighted_sum

BLOCK = 4


def pooled(tensor):
    """Means over blocks of 4x4 of the last two axes (fewer at the edges): (..., H, W) -> (..., ceil(H / 4), ceil(W / 4))."""
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    if tensor.shape[-2] % BLOCK or tensor.shape[-1] % BLOCK:
        flat = tensor.reshape(-1, 1, *tensor.shape[-2:])
        low = F.avg_pool2d(flat, BLOCK, ceil_mode=True, count_include_pad=False)
        return low.reshape(*tensor.shape[:-2], *low.shape[-2:])
    return _summed(_summed(tensor, -2), -1).div_(BLOCK**2)


def _summed(tensor, dim):
    """Sums of ``BLOCK`` neighbours along ``dim``: strided tensors added up, on a CPU in a third of the time of ``sum``."""
    first, second, *rest = tensor.unflatten(dim, (-1, BLOCK)).unbind(dim)
    total = first + second
    for other in rest:
        total.add_(other)
    return total


def spread(low, shape):
    """The inverse of ``pooled`` up to detail: every mean fills its block. Returns a tensor of ``shape``."""
    return _widened(low, shape).repeat_interleave(BLOCK, -2)[..., : shape[-2], :]


def _widened(low, shape):
    return low.repeat_interleave(BLOCK, -1)[..., : shape[-1]]


def answer(row, x, outputs, lows, dtype):
    """``sum_j weights_j v_j`` over v = (x, outputs), plus the same over their means; ``lows`` are those of the outputs."""
    bands = None
    if row.low:
        low = weighted_sum(row.low, [pooled(x), *lows])
        whole = x.shape[-2] % BLOCK == 0  # then a row of means serves four rows of x as it is
        bands = (_widened if whole else spread)(low, x.shape).reshape(-1, 1, x.shape[-1])
    return weighted_sum(row.weights, [x, *outputs], dtype, bands)
