"""Ridge least squares from accumulated normal equations, in float64."""

import torch

RIDGES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)  # of the mean diagonal, once every regressor has unit length
NEAR = 1.0  # where weights are shrunk to theory's
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
    folds = torch.stack([grams[fold::FOLDS].sum(0) for fold in range(min(len(grams), FOLDS))])
    total = folds.sum(0)
    weights = ridge(total, _strength(folds, total))
    return weights.tolist(), float(residual(total, weights)) / len(grams)


def solve_near(grams, theory):
    """As ``solve``, near to the weights ``theory`` of x and of outputs, newest first, and true to images that have settled.

    Where every output is one image already, x that image and noise, the answer is the image: weights add up to 1, as theory's.
    Within that they are free, and the ridge is around theory's, on differences: x less the newest output, and each output less
    the one before. How large a difference is on other pictures, a few do not tell: none counts as less than the noise in x, or
    than the newest output where that is less, so that weights stay where they are for what was not seen.
    """
    theory = torch.tensor(theory, dtype=grams.dtype)
    units = torch.eye(len(theory), dtype=grams.dtype)
    moves = units[:-1] - units[1:]
    known = torch.block_diag(moves, torch.ones(1, 1, dtype=grams.dtype))
    known[-1, :-1] = -theory
    total = known @ grams.sum(0) @ known.T
    found = ridge(total, NEAR, least=min(grams.sum(0)[1, 1], total[0, 0]))
    return (theory + found @ moves).tolist(), float(residual(total, found)) / len(grams)


def ridge(total, strength, least=0.0):
    """Minimise |sum_j w_j v_j - t|^2 + strength * sum_j |w_j v_j|^2; in the second sum no |v_j|^2 counts as under ``least``.

    ``total`` (..., m, m) is the Gram matrix of (v_1 .. v_n, t), ``strength`` a float or tensor (...). Returns w, (..., n).
    """
    inner, onto = total[..., :-1, :-1], total[..., :-1, -1]
    size = inner.diagonal(dim1=-2, dim2=-1).clamp(min=max(float(least), torch.finfo(total.dtype).tiny)).sqrt()
    scaled = inner / size[..., None] / size[..., None, :]
    strength = torch.as_tensor(strength, dtype=total.dtype)[..., None, None]
    scaled = scaled + strength * torch.eye(size.shape[-1], dtype=total.dtype)
    return torch.linalg.solve(scaled, (onto / size)[..., None])[..., 0] / size


def residual(total, weights):
    """Square of what the weighted sum misses the target by: (..., m, m) and (..., m - 1) -> (...)."""
    signed = torch.cat([weights, -torch.ones_like(weights[..., :1])], -1)
    return torch.einsum("...i,...ij,...j->...", signed, total, signed).clamp(min=0)


def _strength(folds, total):
    """Of ``RIDGES`` the one with the smallest error on the fold that each fit leaves out."""
    if len(folds) < 2:
        return DEFAULT_RIDGE
    weights = ridge(total - folds, torch.tensor(RIDGES)[:, None])
    return RIDGES[int(residual(folds, weights).sum(-1).argmin())]
