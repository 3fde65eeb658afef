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
    rows = tensor.unflatten(-2, (-1, BLOCK)).sum(-2)  # whole rows at a time, which is what memory likes
    return rows.unflatten(-1, (-1, BLOCK)).sum(-1) / BLOCK**2


def spread(low, shape):
    """The inverse of ``pooled`` up to detail: every mean fills its block. Returns a tensor of ``shape``."""
    wide = low.repeat_interleave(BLOCK, -2).repeat_interleave(BLOCK, -1)
    return wide[..., : shape[-2], : shape[-1]]


def add_spread(total, low):
    """``total += spread(low, total.shape)``, without making the tensor of that shape."""
    rows = low.repeat_interleave(BLOCK, -1)[..., : total.shape[-1]].to(total.dtype)
    whole = total.shape[-2] // BLOCK
    total[..., : whole * BLOCK, :].unflatten(-2, (whole, BLOCK)).add_(rows[..., :whole, None, :])
    total[..., whole * BLOCK :, :].add_(rows[..., whole:, :])


def answer(row, x, outputs, lows, dtype):
    """``sum_j weights_j v_j`` over v = (x, outputs), plus the same over their means; ``lows`` are those of the outputs."""
    total = weighted_sum(row.weights, [x, *outputs], torch.float32 if row.low and dtype.itemsize < 4 else dtype)
    if row.low:
        add_spread(total, weighted_sum(row.low, [pooled(x), *lows]))
    return total.to(dtype)
