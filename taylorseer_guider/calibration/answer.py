"""The fitted answer of a visit: one weighted sum of x and held outputs, and one of their 4x4 means where those are used."""

import torch
import torch.nn.functional as F

from ..forecast import weighted_sum

BLOCK = 4


def pooled(tensor):
    """Means over blocks of 4x4 of the last two axes (fewer at the edges): (..., H, W) -> (..., ceil(H / 4), ceil(W / 4))."""
    flat = tensor.reshape(-1, 1, *tensor.shape[-2:])
    flat = flat if flat.dtype == torch.float64 else flat.float()
    low = F.avg_pool2d(flat, BLOCK, ceil_mode=True, count_include_pad=False)
    return low.reshape(*tensor.shape[:-2], *low.shape[-2:])


def spread(low, shape):
    """The inverse of ``pooled`` up to detail: every mean fills its block. Returns a tensor of ``shape``."""
    wide = low.repeat_interleave(BLOCK, -2).repeat_interleave(BLOCK, -1)
    return wide[..., : shape[-2], : shape[-1]]


def answer(row, x, outputs, lows, dtype):
    """``sum_j weights_j v_j`` over v = (x, outputs), plus the same over their means; ``lows`` are those of the outputs."""
    total = weighted_sum(row.weights, [x, *outputs], torch.float32 if row.low and dtype.itemsize < 4 else dtype)
    if row.low:
        total += spread(weighted_sum(row.low, [pooled(x), *lows]), total.shape).to(total.dtype)
    return total.to(dtype)
