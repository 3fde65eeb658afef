"""Ridge least squares from accumulated normal equations, in float64."""

import torch

RIDGES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)  # of the mean diagonal, once every regressor has unit length
DEFAULT_RIDGE = 1e-7
FOLDS = 8
CHUNK = 1 << 16  # elements multiplied at a time


def gram(tensors):
    """Mean products of the elements of ``tensors``, m of shape (B, ...), sample by sample: (B, m, m) float64 on the CPU."""
    flat = [tensor.flatten(1) for tensor in tensors]
    total = 0
    for start in range(0, flat[0].shape[1], CHUNK):
        part = torch.stack([tensor[:, start : start + CHUNK].double() for tensor in flat], 1)
        total = total + part @ part.mT
    return total.cpu() / flat[0].shape[1]


def solve(grams):
    """Weights of all but the last of the tensors that ``grams`` (S, m, m) came from, which fit the last one best.

    The strength of the ridge is the one that does best on samples left out of the fit. Returns (m - 1 floats, mean square
    residual).
    """
    strength = _strength(grams)
    weights = ridge(grams.sum(0), strength)
    return weights.tolist(), float(residuals(grams, weights).mean())


def ridge(total, strength):
    """Minimise |sum_j w_j v_j - t|^2 + strength * sum_j |w_j v_j|^2 for ``total``, the Gram matrix of (v_1 .. v_n, t)."""
    size = total.diagonal()[:-1].clamp(min=torch.finfo(total.dtype).tiny).sqrt()
    scaled = total[:-1, :-1] / size[:, None] / size
    scaled = scaled + strength * torch.eye(len(size), dtype=total.dtype)
    return torch.linalg.solve(scaled, total[:-1, -1] / size) / size


def residuals(grams, weights):
    """Mean square of what the weighted sum misses the target by, for each sample: (S,)."""
    signed = torch.cat([weights, weights.new_tensor([-1.0])])
    return (grams @ signed @ signed).clamp(min=0)


def _strength(grams):
    count = len(grams)
    if count < 2:
        return DEFAULT_RIDGE
    folds = [torch.arange(count) % min(count, FOLDS) == fold for fold in range(min(count, FOLDS))]
    misses = []
    for strength in RIDGES:
        misses.append(sum(float(residuals(grams[fold], ridge(grams[~fold].sum(0), strength)).sum()) for fold in folds))
    return RIDGES[min(range(len(RIDGES)), key=misses.__getitem__)]
