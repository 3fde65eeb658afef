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
    return sum(1 if end == 0 else 2 * count for end in sigmas[1:]) + len(sigmas) - 2


def record(probe, sigmas, count, branches, keep):
    """Solve one run with ``count`` Heun steps in each of the host's; ``keep(i, x)`` takes the x at every node.

    Steps in float32 at least, whatever the host's dtype, on sigmas that the host's dtype can represent. Returns what plans are
    compared on, as a dictionary:

    trace   (B, m, m): the Gram matrix of the x at all nodes and then the branches of the outputs at all nodes but the last
    shifts  (nodes, 2): <dD, dx> and <dx, dx>, where dx is the error of one of the host's Euler steps and dD what it does to D
    """
    x = probe.x.to(torch.promote_types(probe.x.dtype, torch.float32))
    xs, outputs, shifts, euler = [_traced(x)], [], [], None
    keep(0, x)
    for i, (start, end) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        fine = [float(torch.tensor(sigma, dtype=torch.float64).to(probe.sigmas.dtype)) for sigma in substeps(start, end, count)]
        node, at_node = x, probe.denoise(x, start, branches)
        shifts.append(_shift(probe, node, euler, start, at_node))
        euler = x + _slope(probe, x, start, at_node) * (end - start)
        first = at_node
        for sigma, next_sigma in zip(fine, fine[1:], strict=False):
            x = _heun(probe, x, sigma, next_sigma, first or probe.denoise(x, sigma, branches))
            first = None
        keep(i + 1, x)
        xs.append(_traced(x))
        outputs += [_traced(branch) for branch in at_node]
    return {"trace": gram([*xs, *outputs]), "shifts": torch.tensor(shifts, dtype=torch.float64)}


def _shift(probe, x, euler, sigma, branches):
    """How outputs answer an error of x: the two inner products of ``record``."""
    if euler is None:
        return 0.0, 0.0
    off = euler - x
    moved = _guided(probe, probe.denoise(euler, sigma, len(branches))) - _guided(probe, branches)
    return float((moved.to(off.dtype) * off).double().sum()), float(off.double().square().sum())


def _heun(probe, x, sigma, next_sigma, branches):
    """One step from the output at its beginning. Returns the next x."""
    d = _slope(probe, x, sigma, branches)
    euler = x + d * (next_sigma - sigma)
    if next_sigma == 0:
        return euler
    d_next = _slope(probe, euler, next_sigma, probe.denoise(euler, next_sigma, len(branches)))
    return x + (d + d_next) / 2 * (next_sigma - sigma)


def _slope(probe, x, sigma, branches):
    return (x - _guided(probe, branches).to(x.dtype)) / sigma


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
