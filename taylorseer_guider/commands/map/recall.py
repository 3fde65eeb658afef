"""What the denoiser would say near a recorded run, and how well that is known."""

from dataclasses import replace

import torch
from torch.nn.functional import pad

from ...calibration.recorded import Recollection

NEAREST = 3  # secants that an answer is made from
RIDGE = 0.05  # of the normal equations of unit secants; more by as much again for ...
FARTHER = 4  # ... each node that one is away


class Recall(Recollection):
    """A ``Recollection`` of a ``course`` (reduced) that knows more than one number a node of how outputs follow x.

    Wherever the denoiser was asked at a second x of one node, it has shown a *secant*: by what the output turned aside from the
    share of what x was off. An error of x is answered by the share of its node, and, as far as it is a sum of secants of nodes
    near by, by the same sum of where they turned. For what is left of it, nobody has asked where it turns: nowhere, or, where
    ``drawn``, as far as on the secants, in a direction that is drawn once and for all. So there are two answers: too kind and,
    mostly, too hard. Tensors are (B, 2 k): as many numbers again as the course has, for what is drawn.
    """

    def __init__(self, course, drawn):
        self.secants, self._turns = [], {}
        self._drawn = _rotation(2 * course.end.shape[1]) if drawn else None
        super().__init__([_widened(visit) for visit in course.visits], course.stepping.method, course.schedule.keys)
        for visit in map(_widened, course.scouted):
            self.measure(visit.sigma, visit.x, visit.output)

    def measure(self, sigma, x, output):
        super().measure(sigma, x, output)
        node, (recorded, known) = self.near(sigma), self.at(sigma)
        off, answer = x - recorded, output - known
        size = off.norm(dim=1, keepdim=True)
        if float(size.min()) > 0:
            turned = answer - self._measured[node] * off
            self.secants.append((node, off / size, turned / size))
            self._turns.setdefault(node, float(turned.norm() / off.norm()))

    def denoise(self, x, sigma, branches):
        """[what the output is thought to be at ``x`` (B, 2 k) and ``sigma``]."""
        node, (recorded, output) = self.near(sigma), self.at(sigma)
        left = x - recorded
        output = output + self.follows(sigma) * left
        if node and self.secants:  # the first sees pure noise, the same in every run
            offs, turned, ridge = self._near(node)
            shares = torch.linalg.solve(offs.mT @ offs + ridge, offs.mT @ left[..., None])
            output = output + (turned @ shares)[..., 0]
            if self._drawn is not None:
                output = output + self._turn(node) * (left - (offs @ shares)[..., 0]) @ self._drawn
        return [output]

    def _near(self, node):
        """(x of the ``NEAREST`` secants to ``node``, (B, 2 k, n), where outputs turned on them, (n, n) ridge)."""
        nearest = sorted(self.secants, key=lambda secant: abs(secant[0] - node))[:NEAREST]
        nodes, *sides = zip(*nearest, strict=True)
        ridge = [RIDGE * (1 + FARTHER * abs(other - node)) for other in nodes]
        return *(torch.stack(side, -1) for side in sides), torch.diag(torch.tensor(ridge, dtype=torch.float64))

    def _turn(self, node):
        """How far outputs turn aside for an error of x, at the measured node that is nearest."""
        return self._turns[min(self._turns, key=lambda other: abs(other - node))]


def _widened(visit):
    return replace(visit, **{name: widened(getattr(visit, name)) for name in ("x", "output")})


def widened(tensor):
    """(B, k) -> (B, 2 k): zeros for what a course has none of."""
    return pad(tensor, (0, tensor.shape[1]))


def _rotation(count):
    """(count, count): orthogonal, the same each time."""
    rng = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(count, count, generator=rng, dtype=torch.float64)).Q
