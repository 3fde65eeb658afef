"""A large picture made piece by piece: overlapping tiles, each sampled by a run of its own from its part of the same noise.

What a network that looks no further than its neighbourhood makes of a place does not depend on where the picture ends. Measured
on the embedded one: the edge of a tile changes what is made 64 pixels away from it by a hundredth of a grey level, and a tenth of
that 25 pixels further in. So a tile sees ``MARGIN`` pixels more on each side than what is kept of it; kept parts meet without a
seam, and nothing needs to be blended.

A forecast weighs outputs pixel by pixel with weights that the schedule alone decides, so the history of a tile forecasts what the
history of the whole picture would there. It is otherwise where weights or plans follow from the outputs (``learn``,
``plan.tolerance``), and where a sampler draws noise on the way, which two tiles would not share: ``can_be_tiled`` says so.

Memory is then that of one tile, and the 8-bit result of the whole; calls cost as many pixels as the tiles see.
"""

from dataclasses import dataclass
from itertools import product

import torch

from ..hosts import stepping

TILE, MARGIN = 512, 64  # pixels of what is made
GRID = 32  # where blocks of attention begin, so that those of a tile are those of the whole
LARGE = 1 << 20  # pixels of what is made, above which it is made in tiles


@dataclass(frozen=True)
class Window:
    """Of a tile, (rows, columns) as slices in pixels of what is enlarged: what it sees, and what is kept of that."""

    seen: tuple
    kept: tuple

    def inside(self, factor):
        """What is kept, in pixels of the tile that was made."""
        return tuple(
            slice((kept.start - seen.start) * factor, (kept.stop - seen.start) * factor)
            for seen, kept in zip(self.seen, self.kept, strict=True)
        )


def scaled(slices, factor):
    """``slices`` in a picture ``factor`` times larger."""
    return tuple(slice(each.start * factor, each.stop * factor) for each in slices)


def windows(height, width, tile, factor):
    """The Windows that cover a picture of ``height`` x ``width``, of which ``tile`` pixels of what is made are kept each."""
    down, across = (list(spans(length, tile // factor, MARGIN // factor, GRID // factor)) for length in (height, width))
    return [Window((top[0], left[0]), (top[1], left[1])) for top in down for left in across]


def spans(length, core, margin, grid):
    """(seen, kept) slices along one side: as few as ``core`` allows, and beginning on the grid.

    What is seen is equally long for all but the last: memory of one tile then serves the next.
    """
    count = -(-length // core)
    core = -(-length // (count * grid)) * grid
    size = min(core + 2 * margin, length)
    for start in range(0, length, core):
        stop = min(start + core, length)
        first = min(max(start - margin, 0), (length - size) // grid * grid)
        yield slice(first, length if stop + margin >= length else first + size), slice(start, stop)


class Noise:
    """``torch.randn(shape)`` with a ``seed``, whose rows are drawn when they are needed, so that it is never held as a whole.

    ``shape`` is (1, C, H, W), H and W multiples of 4: torch draws in groups of 16, and a band of rows ends with one.
    """

    def __init__(self, shape, seed):
        self.shape, self.states = shape, {}
        generator = torch.Generator().manual_seed(seed)
        for channel, top in product(range(shape[1]), range(0, shape[2], GRID)):
            self.states[channel, top] = generator.get_state()
            self.band(top, generator)

    def band(self, top, generator):
        return torch.randn(min(GRID, self.shape[2] - top), self.shape[3], generator=generator)

    def rows(self, start, stop):
        """(1, C, stop - start, W) of it; ``start`` is on the grid."""
        generator, channels = torch.Generator(), []
        for channel in range(self.shape[1]):
            generator.set_state(self.states[channel, start])
            channels.append(torch.cat([self.band(top, generator) for top in range(start, stop, GRID)])[: stop - start])
        return torch.stack(channels)[None]


def can_be_tiled(engine, sampler):
    """Whether tiles of ``engine`` that ``sampler`` makes fit together."""
    settings = getattr(sampler.guider, "settings", None)
    alike = settings is None or (settings.learn is False and settings.plan.tolerance is None)
    return hasattr(engine, "pieces") and alike and not stepping(sampler).noisy
