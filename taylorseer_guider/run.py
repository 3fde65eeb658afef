"""One sampling run: its plan, its history, the visit under way and its report. It is all that changes while a picture is made.

Who decides and who weighs is a ``Policy``, which never changes. A run asks it at every visit, keeps what the denoiser gave, and
makes each forecast as the one weighted sum that the policy asks for.
"""

import math
from dataclasses import dataclass
from time import perf_counter

import torch

from .finite import LATE, Finite
from .history import History
from .memory import own
from .place import Place
from .recording import Recording
from .report import CALL, FORECAST, Report, Visit
from .steps import Answers
from .trust import REASONS, Trust, reason_to_call, unfit

OUTPUT = (
    "the guided output at step {visit.step}, sigma {visit.sigma} is not finite and was not kept; look at the denoiser's inputs "
    "there, its dtype (float16 overflows) and the guidance scale"
)
ANSWER = (
    "the calibration's answer at step {visit.step}, sigma {visit.sigma} is not finite: its weights are not for these outputs; "
    "calibrate this model, or leave `calibration` out"
)


@dataclass
class Asked:
    """A visit between the question and the answer: what ``Run.ask`` hands to ``Run.answer``."""

    run: "Run | None"  # None: nobody's, so that it computes
    guider: object
    x: torch.Tensor
    visit: Visit | None = None
    started: float = 0.0
    gated: bool = False  # the denoiser was reached through the gate
    inside: bool = False  # and has not come back yet
    outer: "Asked | None" = None  # the visit from whose denoiser this one was asked

    @property
    def forecast(self):
        return self.visit is not None and self.visit.action == FORECAST


class Run:
    """The state of one run of ``guider`` (a ``policy.Owner``) with ``sampler``; it begins with its ``schedule`` and ends once.

    ``stepping`` is what is known of how the sampler steps, ``place`` where it is, ``trust`` whether it may forecast.
    """

    def __init__(self, policy, schedule, stepping, guider, sampler=None):
        self.policy, self.schedule, self.stepping = policy, schedule, stepping
        self.guider, self.sampler = guider, sampler
        self.place, self.trust = Place(schedule, stepping.visits), Trust(guider)
        self.history = History(policy.keep.count)
        self.report = Report()
        self.ended = False
        self.aside = False  # a probe's, not a picture's: nobody is told of its end
        self.called = False  # by the sampler's own __call__, not by hand
        self.claimed = False  # by a step generator, which announces its steps
        self.orphan = False  # the loop by hand that began it has let go of it, and a step generator may still claim it
        self.waiting = None  # the visit that was asked about and not yet answered
        self.raised = None  # the x (a weak reference) at which an adapter's model has raised just now
        self.opening = None  # what the sampler's `denoise` was called with first (inspect.BoundArguments)
        self._finite = Finite()
        self.recording = Recording(policy.keep.record, 2 * len(schedule.keys)) if policy.keep.record else None
        self._answers = Answers(policy.keep.step, schedule) if policy.keep.step else None  # what a multistep host goes by
        self._graded = False  # an output has come with a gradient
        self._grading = False  # gradients were recorded at a visit
        self._doubled = False  # the guider hands the denoiser more samples than x has

    # The questions.

    def ask(self, x, key, dtype, gated):
        """Decide on one visit at ``x`` (B, ...), and enter it in the report. Returns an Asked.

        Its ``key``, of the schedule, was read off a tensor of ``dtype``; NaN where the samples of the batch differ.
        """
        started = perf_counter()
        node, sigma = self.place.node(key, dtype), self.schedule.sigma(key)
        known = sigma if 0 < sigma < math.inf else None
        if self.policy.keep.count and (changed := self.trust.changed(x)):
            self.history.clear()  # it is that of another x, or of another scale
            if self.policy.keep.fitted:
                self.trust.lost = self.trust.lost or changed
        if node and not self.guider.shares_plan and not self.report.visits:
            self.policy = self.policy.beginning(node)
        elif node is not None and node < self.policy.first:  # that was but a look ahead
            self.policy = self.policy.beginning(0)
        if self.claimed and self.place.missed and self.policy.keep.count:
            self.history.clear()  # calls that were planned there are missing, and x has gone another way
            self.trust.doubt("steps elsewhere")
        self.place.missed = False
        visit = Visit(self.place.step, known, CALL, "", number=len(self.report.visits), node=node)
        visit.action, visit.reason = self._decide(visit, x, sigma, gated)
        self.report.visits.append(visit)
        self.waiting = Asked(self, self.guider, x, visit, started)
        return self.waiting

    def _decide(self, visit, x, sigma, gated):
        if not self.policy.keep.count:
            return self.policy.decide(visit, self.history)
        begun = torch.is_grad_enabled() and not self._grading
        self._grading = self._grading or begun
        why = self.trust.lost or reason_to_call(x, sigma, gated)
        if why is None and not self.policy.keep.fitted and self.place.again(sigma):
            why = "tiled"
        action, reason = (CALL, why) if why else self.policy.decide(visit, self.history)
        if action == FORECAST and self._forgotten(visit, x):
            action, reason = CALL, "not remembered"
        if action == FORECAST and begun:  # x has no gradient yet, but what it leads to is to have one
            action, reason = CALL, "gradients"
        if reason in REASONS:
            self.trust.doubt(reason)
        return action, reason

    def _forgotten(self, visit, x):
        """Whether the host goes by earlier answers that are not known any more."""
        return self._answers is not None and not self._answers.known(visit, x)

    def inputs(self, asked, sigma):
        """(x, sigma) to call the denoiser with at a visit at ``sigma`` (B,).

        Where what is held are not outputs of x's own shape but raw ones, nobody knows yet what their guided output will be.
        """
        visit, x = asked.visit, asked.x
        raw = visit.reason in REASONS or self._forgotten(visit, x) or (self._graded and torch.is_grad_enabled())
        found = None if raw else self.policy.inputs(visit, self.history)  # what is answered as it comes is asked for as it is
        if found is None or any(branch.shape != x.shape for branch in self.history.branches):
            return x, sigma
        visit.asked, weights = found
        return self.history.weighted(weights, x, dtype=x.dtype).to(x), torch.full_like(sigma, visit.asked)

    def called_with(self, asked, prepared):
        """Note whether the inner guider, which ``prepared`` the denoiser's arguments, hands it more samples than x has."""
        self._doubled = prepared[0].shape[:1] != asked.x.shape[:1]

    def returned_several(self, asked):
        """The denoiser has returned something else than a tensor, of which the host may want more than what is guided."""
        if self.recording is not None:
            self.recording.fault = REASONS["several outputs"]
        if self.policy.keep.count:
            asked.visit.reason = "several outputs"
            self.trust.doubt(asked.visit.reason)

    def give_up(self, asked):
        """A visit whose denoiser raised, and which is asked about again: it does not count."""
        self._waits_no_more(asked)
        self.report.visits = [visit for visit in self.report.visits if visit is not asked.visit]

    def _waits_no_more(self, asked):
        if self.waiting is asked:
            self.waiting = None

    # The answers.

    def answer(self, asked, denoised, combine, varying=False):
        """The guided output of a visit. ``denoised`` is the raw output where there was a call.

        ``combine(output, asked)`` is the inner guider, at the float ``asked`` where the denoiser was, else at the host's sigma.

        Where the inner guider combines differently from visit to visit (``varying``), the branches are what is remembered and
        forecast, and it combines them at every visit; else it is the guided output, which costs half.
        """
        self._waits_no_more(asked)
        visit, keep = asked.visit, self.policy.keep
        again = varying and keep.recombine
        if keep.count and not asked.gated and visit.reason not in REASONS:
            self._slipped(asked)
        if visit.action == FORECAST:
            guided = self._made(asked, self.policy.weights(visit, self.history), combine, again)
        else:
            guided = self._called(asked, denoised, combine, again)
        if self.recording is not None:
            self.recording.take(visit, asked.x, guided, getattr(self.guider, "scale", None))
        if self._answers is not None:
            self._answers.remember(visit, asked.x, guided)
            self._hold()
        self.place.visited.append(visit.sigma or math.nan)
        visit.seconds = perf_counter() - asked.started
        self._finite.read(visit.number - LATE)
        if self.place.is_over(len(self.report.visits)):
            self.end()
        return guided

    def _slipped(self, asked):
        """The host's denoiser ran past the gate. Its output is used, but for one that was asked for half of the samples."""
        self.trust.doubt("not gated")
        if asked.visit.action == CALL or not self._doubled:
            asked.visit.action, asked.visit.reason = CALL, "not gated"

    def _called(self, asked, denoised, combine, again):
        visit, keep = asked.visit, self.policy.keep
        if keep.count and visit.reason not in REASONS and (why := unfit(denoised)):
            visit.reason = why
            self.trust.doubt(why)
        if not keep.count or visit.reason in REASONS:
            return own(combine(denoised), denoised)
        apart = keep.branches > 1
        guided = None if apart or again else combine(denoised, visit.asked)
        branches = branches_of(denoised, asked.x, keep.branches) if apart else [denoised if again else guided]
        self.remember(visit, asked.x, branches)
        weights = self.policy.weights(visit, self.history)
        recorded = torch.is_grad_enabled() and denoised.requires_grad  # which a weighted sum would lose
        if recorded:
            self._graded = True
            self.trust.doubt("gradients")
        if weights is None or recorded or self._forgotten(visit, asked.x):
            return own(combine(denoised, visit.asked) if guided is None else guided, denoised)
        return self._made(asked, weights, combine, again)

    def _made(self, asked, weights, combine, again):
        """The guided output that ``weights`` make: one for the host's step."""
        output = self._weighted(asked.visit, asked.x, weights)
        guided = combine(output) if again else output
        return guided if self._answers is None else self._answers.solved(asked.visit, asked.x, guided, own=not again)

    def remember(self, visit, x, branches):
        """Take the ``branches`` of a call's output into history."""
        for branch in branches:
            self._finite.note(branch, visit, OUTPUT)
        self.history.take(visit, x, branches, self._keep_for(x, branches[0]), self.schedule)
        self._hold()

    def _hold(self):
        """Count what is held now."""
        self.report.hold([*self.history.branches, *self.history.means, *(self._answers.tensors if self._answers else [])])

    def _keep_for(self, x, output):
        """The policy's Keep, whose quantity must be had from an output of this shape."""
        keep = self.policy.keep
        if keep.quantity != "denoised" and x.shape != output.shape:
            if not keep.quantity_is_auto:
                shapes = f"x is {tuple(x.shape)}, the output {tuple(output.shape)}"
                raise ValueError(f"forecast.quantity={keep.quantity!r}: {shapes}; use 'denoised'")
            self.policy = self.policy.forecasting("denoised")
        return self.policy.keep

    def _weighted(self, visit, x, weights):
        """The weighted sum that answers ``visit``."""
        visit.order, visit.weight_sum, visit.error = weights.order, weights.size, weights.error
        totals = [] if self.policy.keep.fitted else None
        answer = self.history.weighted(weights, x, totals)
        if totals is not None:
            self._finite.note(answer, visit, ANSWER, totals)
        return answer

    # The end.

    def end(self, quietly=False):
        """Close the report and free the history. Raises what is left to raise, unless ``quietly``."""
        if self.ended:
            return
        self.ended, self.report.finished = True, True
        self.history.clear()
        self._answers = None
        if not self.aside:
            self.guider.finished(self.report)
        if not quietly:
            self._finite.read(len(self.report.visits))
        if self.recording is not None and not quietly and not self.called:
            self.guider.learn_from(self)  # where it was called, once the sampler has returned
        if quietly or not self.called:
            self.opening = self.recording = None


def branches_of(denoised, x, count):
    """The branches of a raw output: (count * B, ...) -> ``count`` tensors (B, ...), uncond first."""
    if denoised.shape[0] != count * x.shape[0] or denoised.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"the denoiser's output has shape {tuple(denoised.shape)}, {count} branch(es) of x, {tuple(x.shape)}, were fitted"
        )
    return list(denoised.chunk(count))
