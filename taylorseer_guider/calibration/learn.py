"""Weights learnt from one recorded run, for no more calls than it made itself."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, pairwise

import torch

from ..calibrated import describe
from ..calibration_file import Calibration
from ..hosts import SAMPLERS
from ..landing import unfitted
from ..learnt import ROOM, Learnt
from ..plan import with_calls
from ..recording import Recorded
from .fingerprint import fingerprint
from .host import Probe
from .ode import EULER, Reference, stops, substeps
from .problem import Problem, identity, mean_squares
from .recorded import Recollection, Retraced
from .squares import near
from .theory import Theory, policy_over, walked, weights_of
from .walk import fit

PEAK = 2.0  # as in ``calibrate``
BRANCHES, ONE = 1, (1.0,)  # the guided output as it is, whatever its scale
PARTS, FAINT = 32, 1e-3  # of a sample; share of the mean square error by which a part may miss as it likes
FLAT = 1e-3  # share of a picture's mean square that its variance is at least
LOST = 0.5  # share of a picture's variance by which `calls` alone has missed it, and made another one
AGREED = 5.0  # dB by which two corrections must be nearer to each other than `calls` alone is to either
ENOUGH = 4  # calls of what is aimed at for each one of what is learnt: more bring nothing
WALKS = 2  # with real calls: of `calls` alone, and of what is learnt; what is left goes to what is aimed at


def learnt(guider, run):
    """What the recorded ``run`` teaches the runs of ``guider`` that are like it: a ``Learnt``.

    ValueError, with the reason, where it teaches nothing. Where the run was a call of its sampler, it is walked with real calls
    from the same start, the denoiser being the one of the run; else the recording alone must do.
    """
    return Lesson(guider, run).learnt()


@dataclass(frozen=True)
class Lesson:
    """One recorded run, and the guider that learns from it."""

    guider: object
    run: object

    def learnt(self):
        probe, calls, x = self.probe, self.settings.calls, self.run.recording.x
        left = len(self.recollection.stops) - self.named - WALKS * (calls - 1)  # calls, once both walks are made
        asked = probe if probe and left >= 0 else self.recollection
        if asked is self.recollection and self.stepping.method != "heun" and calls > 1:
            raise ValueError(
                "the recording does not say how outputs follow x, as one of Heun's would, and no more calls may be made"
            )
        ended = self.alone(asked)
        sigmas, nodes = with_calls(self.recollection.sigmas, self.policy.called)
        teacher = self.teacher(asked, min(left + 1, ENOUGH * calls))
        problem = self.problem(asked, sigmas, teacher)
        missed, found = off(problem, ended), fit(problem, nodes, near)
        alone = float(problem.decibels(missed.square().mean(1)).mean())
        parts = gained(missed, off(problem, found.ends[0]))
        about = {"samples": len(x), "shapes": [list(x.shape[1:])], "alone_db": round(alone, 3), "parts_db": round(parts, 3)}
        if doubt := self.doubt(problem, missed, alone, teacher):
            about["doubt"] = doubt
        if probe and self.named:
            about["fingerprint"] = fingerprint(self.run, sigmas)
        about["cost"] = (probe.calls if probe else 0) + ("fingerprint" in about)
        fitted = replace(describe(self.run.sampler, self.run.stepping, self.guider, sigmas), sampler=EULER)
        return Learnt.of(Calibration(fitted, BRANCHES, problem.history, {calls: found.budget}, about), calls)

    @property
    def settings(self):
        return self.guider.settings

    @property
    def named(self):
        """Whether what is learnt goes to a file, which says what model it is of."""
        return self.settings.learn is not True

    @cached_property
    def probe(self):
        """Asks the run's own denoiser; None where the run was driven by hand, and nobody knows whether it may still be asked."""
        return Probe.begun(self.run, self.run.recording.x) if self.run.called and self.run.opening else None

    @cached_property
    def recollection(self):
        recording = self.run.recording
        if not recording.finite:
            raise ValueError("x or an output of it is not finite")
        return Recollection(recording.visits, self.run.stepping.method, self.run.schedule.keys)

    @cached_property
    def policy(self):
        """That of `calls` alone."""
        return unfitted(self.unaided, self.run.schedule, self.stepping, self.guider.scale)

    @property
    def stepping(self):
        """How the lesson steps: as the run did, or, where that was a multistep host's, as Euler's method, to the same picture."""
        return self.run.stepping if self.run.stepping.method else SAMPLERS[EULER]

    @property
    def unaided(self):
        return replace(self.settings, learn=False)

    def doubt(self, problem, missed, alone, teacher):
        """Why what is learnt should not be used, however much it gains, as the end of a sentence on `calls` alone, which has
        ``missed`` by (B, n), at ``alone`` dB; None where nothing speaks against it.

        `calls` alone may have made another picture. And Euler's run, where it is the ``teacher``, may be no nearer to the end:
        then its correction ends as far from that of `calls` alone as this itself does.
        """
        reference = problem.reference(0, -1).double()
        variance = reference.var(1, correction=0)
        pictures = variance > FLAT * reference.square().mean(1)  # of one that is flat, nobody can say which it is
        others = pictures & (missed.square().mean(1) > LOST * variance)
        if 2 * int(others.sum()) >= len(others):
            return "it ends at another picture there, which says nothing of those where it does not"
        if teacher is self.recollection and self.run.stepping.method == "euler":
            other = self.recollection.retraced().corrected(problem.sigmas)[-1]
            if float(problem.decibels(mean_squares(other, reference)).mean()) < alone + AGREED:
                return "the full run may be no nearer to the solution than that"
        return None

    def problem(self, probe, sigmas, teacher):
        """What is fitted with the answers of ``probe`` to the solution of ``teacher`` (a ``Path``), over ``sigmas``."""
        solution, some = teacher.corrected(sigmas), partial(self.some, probe)
        return problem_over(sigmas, probe, solution, self.first(probe), self.unaided, self.guider.scale, seen=some)

    def teacher(self, probe, calls):
        """The path whose correction is aimed at: of a run by `calls` alone, whose order is higher than the host's, of as many
        ``calls``, the first included, if they suffice, or the recorded run: the one that its own correction moves less.
        """
        recorded = self.recollection
        if probe is recorded or calls < ROOM * self.settings.calls:
            return recorded
        sigmas, known = finer(recorded.sigmas, calls), []
        settings = replace(self.unaided, calls=min(calls, len(sigmas) - 1))
        policy = policy_over(sigmas, settings, self.guider.scale)

        def notice(sigma, x, output):
            known.append(Recorded(None, sigma, self.some(probe, x), self.some(probe, output)))

        end = self.some(probe, walked(probe, Theory(policy), stops("euler", sigmas), self.first(probe), notice))
        ends = {Retraced(known, recorded): end, recorded: recorded.end}
        return min(ends, key=lambda path: float((path.corrected(recorded.sigmas)[-1] - ends[path]).norm()))

    def first(self, probe):
        """The output at the start of the run, as ``probe`` has it."""
        return self.recollection.known[0].output if probe is self.recollection else self.run.recording.output

    def some(self, probe, tensor):
        """The recorded elements of a ``tensor`` of ``probe``'s."""
        return tensor if probe is self.recollection else self.run.recording.some(tensor)

    def alone(self, probe):
        """The x that `calls` alone ends at, from the same start. Its calls tell how outputs follow x, where that is not known."""

        def notice(sigma, x, output):
            self.recollection.measure(sigma, self.some(probe, x), self.some(probe, output))

        return walked(probe, Theory(self.policy), self.recollection.stops, self.first(probe), notice)


def off(problem, end):
    """By how much the x ``end`` of the one run of ``problem`` misses its reference, where that is known: (B, n) float64."""
    return (problem.seen(end) - problem.reference(0, -1)).double()


def gained(missed, left):
    """dB by which ``left``, (B, n) like ``missed``, is less, in the mean over ``PARTS`` of each sample: where one bright spot
    decides the PSNR, what was gained there may be lost elsewhere, and other pictures have other spots.
    """
    before, after = (
        torch.stack([part.square().mean(1) for part in each.tensor_split(min(PARTS, each.shape[1]), dim=1)], 1)
        for each in (missed, left)
    )
    faint = (FAINT * before.mean(1, keepdim=True)).clamp(min=1e-30)
    return float(10 * torch.log10((before + faint) / (after + faint)).mean())


def finer(sigmas, count):
    """``sigmas``, falling to 0, with so many between them that ``count`` calls have room, if there are two at least."""
    pieces = math.ceil(count / max(len(sigmas) - 2, 1))
    parts = (substeps(start, end, pieces, torch.float64)[:-1] for start, end in pairwise(sigmas))
    return (*chain.from_iterable(parts), 0.0)


def problem_over(sigmas, probe, solution, first, settings, scale, peak=PEAK, seen=identity):
    """The Problem of weights in Euler's steps over ``sigmas``, near to those of ``settings`` alone at a guidance ``scale``.

    ``probe`` answers, from ``first`` on, and ``solution`` is the x to be reached at each of ``sigmas``, as far as it is ``seen``.
    """
    policy = policy_over(sigmas, settings, scale)
    theory = lambda sigmas, nodes, _: weights_of(policy, sigmas, nodes)  # noqa: E731
    references, history = [Reference(solution, [first])], policy.keep.count
    return Problem([probe], references, BRANCHES, history, False, peak, theory, ONE, sigmas, seen=seen)
