"""The outputs of two runs, visit by visit, so that those of one can be measured against those of the other."""

from contextlib import ExitStack, contextmanager
from functools import wraps

ELEMENTS = 1 << 16  # of each output, evenly spread: two runs of 39 visits take 20 MB


@contextmanager
def recorded(*samplers, when=True):
    """A list for each of ``samplers`` that fills with (n,) of each guided output while it runs.

    It stays empty without ``when``, and where a sampler has no ``denoise`` to ask through.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_watched(sampler)) if when and hasattr(sampler, "denoise") else [] for sampler in samplers]


@contextmanager
def _watched(sampler):
    outputs, denoise = [], sampler.denoise

    @wraps(denoise)  # whose arguments are looked at by name
    def watched(*args, **kwargs):
        output = denoise(*args, **kwargs)
        outputs.append(some(output))
        return output

    sampler.denoise = watched
    try:
        yield outputs
    finally:
        del sampler.denoise


def some(output):
    """(n,) elements of ``output``, where it is: nobody waits for them."""
    flat = output.detach().flatten()
    return flat[:: -(-len(flat) // ELEMENTS)].float()


def visit_errors(outputs, references, peak):
    """Root mean square of (output - reference) / ``peak``, their range, by visit; None where visits do not correspond."""
    if len(outputs) != len(references) or not outputs:
        return None
    return [(x - y).square().mean().sqrt().item() / peak for x, y in zip(outputs, references, strict=True)]
