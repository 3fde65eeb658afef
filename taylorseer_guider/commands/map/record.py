"""A full run as it is followed: every x and guided output, in as few numbers as hold all distances between them."""

import math
from dataclasses import dataclass, replace

import torch

from ... import loops
from ...learning import LIMIT
from ...policy import Everything, Keep
from ...recording import Recorded
from ...schedule import NEAR, Schedule


@dataclass(frozen=True)
class Course:
    """The visits of a full run and the x that it ended at, (B, n) each: of every sample the same ``elements``, n at first.

    ``scouted`` are visits of other runs from the same start: ``x`` and ``output`` at a node of this one. ``upper`` (n,) tells
    the elements of the upper half of a picture. ``shape`` is x's, ``scale`` that of the guidance.
    """

    schedule: Schedule
    stepping: object  # a ``hosts.Stepping``
    scale: object
    shape: tuple
    visits: tuple[Recorded, ...]
    end: torch.Tensor
    elements: int
    upper: torch.Tensor | None = None
    scouted: tuple[Recorded, ...] = ()

    @property
    def calls(self):
        """Denoiser calls that the full run took."""
        return len(self.visits)

    @property
    def along(self):
        """{node: the last visit there}: the run's own x, which Heun's method comes to at its second visit."""
        nodes, found = self.schedule.nodes, {}
        for visit in self.visits:
            node = next((n for n, sigma in enumerate(nodes) if math.isclose(visit.sigma or 0.0, sigma, rel_tol=NEAR)), None)
            if node is not None:
                found[node] = visit
        return dict(sorted(found.items()))

    def halves(self):
        """Two runs in the place of one: what is above the middle of the pictures, and what is below. Both reduced."""
        return tuple(self._of(lambda t, part=part: t[:, part], int(part.sum())) for part in (self.upper, ~self.upper))

    def reduced(self):
        """The same, turned so that at most as many numbers of each sample are left as there are tensors.

        Lengths, angles and weighted sums of x and outputs stay what they were: all that is asked of a run here.
        """
        return self._of(lambda t: t, self.elements)

    def _of(self, part, elements):
        pairs = [*self.visits, *self.scouted]
        tensors = [part(t) for pair in pairs for t in (pair.x, pair.output)] + [part(self.end)]
        turned = [_turned(torch.stack(sample, 1)) for sample in zip(*tensors, strict=True)]  # (n, m) -> (k, m) of each sample
        *turned, end = torch.stack(turned).unbind(-1)
        pairs = [replace(pair, x=x, output=y) for pair, x, y in zip(pairs, turned[::2], turned[1::2], strict=True)]
        visits, scouted = tuple(pairs[: self.calls]), tuple(pairs[self.calls :])
        return replace(self, visits=visits, scouted=scouted, end=end, elements=elements, upper=None)


def _turned(columns):
    """The coordinates (k, m) of the ``columns`` (n, m) along an orthonormal basis of theirs, k = min(n, m), in float64."""
    return torch.linalg.qr(columns.double(), mode="r").R


def followed(sampler, denoiser, arguments):
    """Call ``sampler`` (whose guider is ours) once, with the denoiser called at every visit: (Course, what it returned, some).

    ``some`` takes of a tensor of x's shape what the Course holds of each. ValueError where it did not make one whole run.
    """
    policy = Everything("recorded", Keep(record=LIMIT))
    with torch.inference_mode(), loops.following(lambda *_: policy), loops.calling(sampler) as begun:
        x = sampler(denoiser, **arguments)
    if len(begun) != 1:
        raise ValueError(f"{type(sampler).__name__} made {len(begun)} runs, where one is to be followed")
    run, recording = begun[0], begun[0].recording
    if recording.fault is not None:
        raise ValueError(f"the run cannot be followed: {recording.fault}")
    if not recording.finite:
        raise ValueError("x or an output of it is not finite; look at the denoiser's dtype (float16 overflows) and the scale")
    visits, upper = tuple(recording.visits), _upper(recording.elements, recording.shape)
    made = (run.schedule, run.stepping, recording.scale, tuple(recording.shape), visits, recording.some(x))
    return Course(*made, len(recording.elements), upper), x, recording.some


def _upper(elements, shape):
    """Which of the ``elements`` (flat indices into a sample) lie in the upper half of it; of one row, in its first half."""
    rows, columns = shape[-2:] if len(shape) > 2 and shape[-2] > 1 else (shape[-1], 1)
    return elements // columns % rows < rows // 2
