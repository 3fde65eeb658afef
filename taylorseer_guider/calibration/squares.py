"""Least squares from accumulated normal equations, near to what theory says, in float64."""

import torch

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the ridge, once every regressor has unit length
NEAR = (1.0,)  # where nothing is left out to choose one by: weights that move little from theory's
FEW = 4  # samples, of which none is left out
FOLDS = 8
USUAL = 30.0  # times the geometric mean of all samples' square errors: one that is farther off counts less
ROUNDS = 4  # of solving with what each sample counts then
CHUNK = 1 << 16  # elements multiplied at a time


def gram(tensors):
    """Mean products of the elements of ``tensors``, m of shape (B, ...), sample by sample: (B, m, m) float64 on the CPU."""
    flat = [tensor.flatten(1) for tensor in tensors]
    total = 0
    for start in range(0, flat[0].shape[1], CHUNK):
        part = torch.stack([tensor[:, start : start + CHUNK].double() for tensor in flat], 1)
        total = total + part @ part.mT
    return total.cpu() / flat[0].shape[1]


def solve(grams, theory, blocks=1, strengths=STRENGTHS):
    """Weights of all but the last of the tensors that ``grams`` (S, m, m) came from, which fit the last one best.

    ``theory`` are weights that need no fit (m - 1 floats), for as many ``blocks``, each of x and of outputs, newest first. Where
    every output is one image already, x that image and noise, the answer is the image: so the weights of a block keep the sum
    that theory's have. Within that they are free, and the ridge is around theory's, on differences: x less the newest output, and
    each output less the one before. How large a difference is on other pictures, a few do not tell: none counts as less than the
    noise in x, or than the newest output where that is less.

    The strength of the ridge is the one of ``strengths`` that does best on samples left out of the fit, in the mean of their dB;
    ``NEAR`` where there are few. A sample that nothing fits, such as a picture that has turned into another one, does not spoil
    the others: squares are weighed by 1 / (error + ``USUAL``), as for Cauchy's loss (Beaton and Tukey, Technometrics 1974).
    Returns (m - 1 floats, mean square residual).
    """
    theory = torch.tensor(theory, dtype=grams.dtype, device="cpu")
    moves = differences(len(theory), blocks).to(grams)
    known = torch.block_diag(moves, torch.ones(1, 1, device="cpu").to(grams))
    known[-1, :-1] = -theory
    changed = known @ grams @ known.T
    found, errors = _robust(changed, least(grams.mean(0)[:-1], changed.mean(0), blocks), strengths if len(grams) >= FEW else NEAR)
    return (theory + found @ moves).tolist(), float(errors.mean())


def differences(count, blocks):
    """(count - blocks, count): each weight's regressor less that of the next one of its block."""
    units = torch.eye(count // blocks, device="cpu")
    return torch.block_diag(*[units[:-1] - units[1:]] * blocks)


def least(total, changed, blocks):
    """What each of the differences ``changed`` counts for at least, (n,): by its block, of x and the newest output, then others.

    ``total`` are the products of what they are differences of; what comes after the blocks does not matter.
    """
    size = len(total) // blocks
    starts = range(0, blocks * size, size)
    floors = [min(total[at + 1, at + 1], changed[at - n, at - n]) for n, at in enumerate(starts)]
    return torch.stack(floors).repeat_interleave(size - 1)


def near(grams, theory, blocks=1):
    """As ``solve``, where all samples are of one run and say little of others."""
    return solve(grams, theory, blocks, NEAR)


def _robust(grams, least, strengths):
    """(weights (n,), square errors (S,)) of a fit to ``grams`` (S, n + 1, n + 1), the last tensor being the target."""
    folds = min(len(grams), FOLDS) if len(strengths) > 1 else 0
    left_out = torch.arange(len(grams), device="cpu") % max(folds, 1)
    kept = torch.ones(folds + 1, len(grams), dtype=grams.dtype, device="cpu")  # by each fit; the last one keeps all
    if folds:
        kept[left_out, torch.arange(len(grams), device="cpu")] = 0.0
    errors = grams[:, -1, -1].expand(len(strengths), *kept.shape)
    ridges = torch.tensor(strengths, dtype=grams.dtype, device="cpu")[:, None].expand(-1, len(kept))
    for _ in range(ROUNDS):
        errors = errors.clamp(min=torch.finfo(grams.dtype).tiny)
        counts = kept / (errors + USUAL * errors.log().mean(-1, keepdim=True).exp())
        totals = torch.einsum("kfs,sij->kfij", counts / counts.sum(-1, keepdim=True), grams)
        weights = ridge(totals, ridges, least)
        errors = residual(grams, weights[..., None, :])
    unseen = errors[:, left_out, torch.arange(len(grams), device="cpu")] if folds else errors[:, -1]
    best = int(unseen.clamp(min=torch.finfo(grams.dtype).tiny).log().mean(-1).argmin())
    return weights[best, -1], errors[best, -1]


def ridge(total, strength, least=0.0):
    """Minimise |sum_j w_j v_j - t|^2 + strength * sum_j |w_j v_j|^2; in the second sum no |v_j|^2 counts as under ``least``.

    ``total`` (..., m, m) is the Gram matrix of (v_1 .. v_n, t), ``strength`` a float or tensor (...), ``least`` a float or (n,).
    Returns w, (..., n).
    """
    inner, onto = total[..., :-1, :-1], total[..., :-1, -1]
    least = torch.as_tensor(least, dtype=total.dtype, device="cpu").clamp(min=torch.finfo(total.dtype).tiny)
    size = torch.maximum(inner.diagonal(dim1=-2, dim2=-1), least).sqrt()
    scaled = inner / size[..., None] / size[..., None, :]
    strength = torch.as_tensor(strength, dtype=total.dtype, device="cpu")[..., None, None]
    scaled = scaled + strength * torch.eye(size.shape[-1], dtype=total.dtype, device="cpu")
    return torch.linalg.solve(scaled, (onto / size)[..., None])[..., 0] / size


def residual(total, weights):
    """Square of what the weighted sum misses the target by: (..., m, m) and (..., m - 1) -> (...)."""
    signed = torch.cat([weights, -torch.ones_like(weights[..., :1])], -1)
    return torch.einsum("...i,...ij,...j->...", signed, total, signed).clamp(min=0)
