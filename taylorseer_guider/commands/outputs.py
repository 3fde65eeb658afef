"""The outputs of a run, visit by visit, so that those of another can be measured against them."""

from contextlib import contextmanager

ELEMENTS = 1 << 16  # of each output, evenly spread: 39 visits of a full run take 10 MB


@contextmanager
def recorded(sampler):
    """A list that fills with (n,) of each guided output while ``sampler`` runs; it stays empty where it has no ``denoise``."""
    outputs, denoise = [], getattr(sampler, "denoise", None)

    def watched(*args, **kwargs):
        output = denoise(*args, **kwargs)
        outputs.append(some(output))
        return output

    if denoise is None:
        yield outputs
        return
    sampler.denoise = watched
    try:
        yield outputs
    finally:
        del sampler.denoise


def some(output):
    """(n,) elements of ``output``, where it is: the host waits for nothing."""
    flat = output.detach().flatten()
    return flat[:: -(-len(flat) // ELEMENTS)].float()


def visit_errors(outputs, references, peak):
    """How far each output is off, root mean square, as a fraction of their range ``peak``; None where visits do not correspond."""
    if len(outputs) != len(references):
        return None
    return [(x - y).square().mean().sqrt().item() / peak for x, y in zip(outputs, references, strict=True)]
