"""The solution that a calibration aims at: the run's own ordinary differential equation, solved finely from the same start."""

import torch

from ..forecast import RHO
from .solve import gram

TRACED = 1 << 14  # elements of each sample that plans are compared on


def substeps(start, end, count):
    """``count + 1`` sigmas from ``start`` to ``end``, evenly spaced in sigma^(1/7); one step where it ends at 0."""
    if end == 0:
        return [start, end]
    first, last = start ** (1 / RHO), end ** (1 / RHO)
    inner = [(first + (last - first) * i / count) ** RHO for i in range(1, count)]
    return [start, *inner, end]


def calls_of_reference(sigmas, count):
    """Denoiser calls that ``record`` makes."""
    return sum(1 if end == 0 else 2 * count for end in sigmas[1:])


def record(probe, sigmas, count, branches, keep):
    """Solve one run with ``count`` Heun steps in each of the host's; ``keep(i, x)`` takes the x at every node.

    Steps in float32 at least, whatever the host's dtype, on sigmas that the host's dtype can represent. Returns the trace (B, m,
    m): the Gram matrix of the x at all nodes and then the branches of the outputs at all nodes but the last.
    """
    x = probe.x.to(torch.promote_types(probe.x.dtype, torch.float32))
    xs, outputs = [_traced(x)], []
    keep(0, x)
    for i, (start, end) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        fine = [float(torch.tensor(sigma, dtype=torch.float64).to(probe.sigmas.dtype)) for sigma in substeps(start, end, count)]
        for n, (sigma, next_sigma) in enumerate(zip(fine, fine[1:], strict=False)):
            x, at_node = _heun(probe, x, sigma, next_sigma, branches)
            outputs += [_traced(branch) for branch in at_node] if n == 0 else []
        keep(i + 1, x)
        xs.append(_traced(x))
    return gram([*xs, *outputs])


def _heun(probe, x, sigma, next_sigma, branches):
    """One step. Returns the next x and the branches of the output at its beginning."""
    at_node = probe.denoise(x, sigma, branches)
    d = (x - _guided(probe, at_node).to(x.dtype)) / sigma
    euler = x + d * (next_sigma - sigma)
    if next_sigma == 0:
        return euler, at_node
    d_next = (euler - _guided(probe, probe.denoise(euler, next_sigma, branches)).to(x.dtype)) / next_sigma
    return x + (d + d_next) / 2 * (next_sigma - sigma), at_node


def _guided(probe, branches):
    if len(branches) == 1:
        return branches[0]
    uncond, cond = (branch.to(torch.promote_types(branch.dtype, torch.float32)) for branch in branches)
    return uncond + probe.sampler.guider.scale * (cond - uncond)


def _traced(tensor):
    """The same elements, evenly spread, of every sample: (B, ...) -> (B, n)."""
    flat = tensor.detach().flatten(1)
    chosen = torch.linspace(0, flat.shape[1] - 1, min(flat.shape[1], TRACED)).long().to(flat.device)
    return flat[:, chosen].to("cpu", torch.promote_types(flat.dtype, torch.float32))
