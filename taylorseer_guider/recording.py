"""What a full run leaves behind, to be learnt from: copies of some elements of every x and output, on the CPU."""

from dataclasses import dataclass

import torch

from .files import first_line
from .values import same_scale

ELEMENTS = 1 << 16  # of each sample that are recorded at most: a visit has a dozen weights


@dataclass(frozen=True)
class Recorded:
    """One visit: ``x`` and the guided ``output``, (B, n) each."""

    step: int | None
    sigma: float | None
    x: torch.Tensor
    output: torch.Tensor


class Recording:
    """The visits of a run under way, ``count`` of them at most, in at most ``limit`` bytes.

    Of each sample the same ``elements`` (n,) are recorded, evenly spread over it, fewer where the batch is large. Besides, the
    run's first ``x`` and ``output``, (B, ...), are held whole, where they are. ``fault`` says why there is nothing to learn from,
    ``moved`` that this is a scale that was set meanwhile, ``draws`` whether the denoiser may draw random numbers: not where none
    were drawn from one visit to the next.
    Branches are not kept apart, as ``calibrate`` keeps them: from one picture nobody can tell how they share what they say.
    """

    def __init__(self, limit, count):
        self.limit, self.count = limit, count
        self.visits, self.elements, self.fault = [], None, None
        self.x = self.output = self.scale = self.shape = None
        self.draws, self._drawn, self.moved = True, None, False

    @torch.no_grad()
    def take(self, visit, x, guided, scale):
        """Copy what ``visit`` at ``x`` gave, with the guidance ``scale``. Never raises: see ``fault``."""
        self.shape = x.shape if self.shape is None else self.shape
        if self.fault is not None:
            return
        try:
            if self.x is None:
                self._begin(x, guided, scale)
            self._require_same(x, guided, scale)
            self._look(x.device)
            self.visits.append(Recorded(visit.step, visit.sigma, self.some(x), self.some(guided)))
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:  # the picture goes on without
            self.fault = first_line(error)
            self.visits, self.x, self.output = [], None, None

    def _begin(self, x, guided, scale):
        if guided.shape != x.shape:
            raise ValueError(f"x is {tuple(x.shape)}, the output {tuple(guided.shape)}: only outputs of x's shape can be learnt")
        if not len(x):
            raise ValueError("the batch is empty")
        self.scale = scale
        whole, each = x[0].numel(), len(x) * self.count * 2 * 4  # bytes for an element of each sample
        count = max(min(whole, ELEMENTS, self.limit // each), 1)
        self.elements = torch.linspace(0, whole - 1, count, dtype=torch.float64, device="cpu").round().long()
        self.x, self.output = x.detach().clone(), guided.detach().clone()

    def _look(self, device):
        """Whether random numbers were drawn since the visit before, by the denoiser or in another thread."""
        before, self._drawn = self._drawn, [torch.get_rng_state()]
        if device.type == "cuda":
            self._drawn.append(torch.cuda.get_rng_state(device))
        self.draws = self.draws and (before is None or not all(map(torch.equal, before, self._drawn)))

    def _require_same(self, x, guided, scale):
        if not same_scale(scale, self.scale):
            self.moved = True
            raise ValueError(f"the guidance scale was changed in mid-run, from {self.scale} to {scale}")
        if x.shape != self.x.shape or guided.shape != x.shape:
            raise ValueError(f"x changed its shape in mid-run, from {tuple(self.x.shape)} to {tuple(x.shape)}")
        if len(self.visits) >= self.count:
            raise ValueError(f"there are more than {self.count} visits")

    @property
    def finite(self):
        """Whether all that was recorded is."""
        return all(torch.isfinite(part).all() for visit in self.visits for part in (visit.x, visit.output))

    def some(self, tensor):
        """The recorded elements of ``tensor`` (B, ...): (B, n), on the CPU, float32 or wider."""
        chosen = tensor.detach()[..., None].flatten(1)[:, self.elements.to(tensor.device)]
        return chosen.to("cpu", torch.promote_types(tensor.dtype, torch.float32))
