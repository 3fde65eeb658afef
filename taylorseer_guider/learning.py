"""What one guider has learnt from its own full runs, and the file that it may be kept in."""

import logging
import math
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from .calibrated import Calibrated, describe, goes_on, policy_for, require_same
from .calibration_file import Calibration
from .files import first_line
from .hosts import stepping
from .learnt import Learnt
from .policy import Everything, Keep
from .values import same_scale

logger = logging.getLogger(__name__)
LIMIT = 256 << 20  # bytes of a recording


class Learner:
    """What the guider with these ``settings`` has learnt. It belongs to that guider alone; threads may share it.

    The first run of Euler's, Heun's or DPM++2M's sampler at a scale and size is a full one, and so are those that begin before it
    has been learnt from. What was learnt serves other samplers and schedules, too, as far as a calibration does
    (``calibrated.policy_for``); where it does not, they are learnt anew. A file, where there is one, stands for the run that it
    was learnt from; ValueError for one that does not.
    """

    def __init__(self, settings):
        self.settings = settings
        self._known, self._busy, self._said, self._lock = {}, {}, set(), threading.Lock()
        self._path = None if settings.learn is True else Path(settings.learn)
        self._of_file = self._file = None  # of what runs the file is, and what was learnt from them
        self._checked = False
        if self._path and _is_there(self._path):
            self._of_file, self._file = self._read()
            self._known[self._of_file] = self._file
        if self._path and not self._path.absolute().parent.is_dir():
            raise ValueError(f"learn={str(self._path)!r}: there is no such folder; make it, or name another file")

    def __reduce__(self):
        return Learner, (self.settings,)  # a copy has learnt nothing but what the file says

    def _read(self):
        found = Calibration.load(self._path, "learn")
        try:
            learnt, shape, prints = Learnt.of(found, self.settings.calls), found.about["shapes"][0], found.about["fingerprint"]
            whole = isinstance(prints, list) and shape and all(isinstance(length, int) for length in shape)
            if not whole or not all(map(math.isfinite, prints)):
                raise TypeError
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"learn={str(self._path)!r}: it was not learnt, or not whole; remove it, or name another") from None
        except ValueError as error:
            raise ValueError(f"learn={str(self._path)!r}: {error}") from None
        return (found.fitted, tuple(shape)), learnt

    def policy(self, guider, schedule, sampler, x, alone, dtype):
        """The policy of a run of ``sampler`` from ``x``; ``alone`` is the one of `calls` alone."""
        key = None if x is None else self._key(guider, schedule, sampler, getattr(x, "shape", None))
        if key is None:
            return alone
        known = stepping(sampler)
        found = self._served(key, known, alone, dtype)
        if found is None and not known.asks:
            self._say(
                key, "nothing is learnt from %s, which cannot be asked again; its runs go by `calls: %d` alone, until Heun's, "
                "Euler's or DPM++2M's sampler has been learnt from at this scale and size", type(sampler).__name__,
                self.settings.calls,
            )  # fmt: skip
            return alone
        return found or Everything("to be learnt from", Keep(record=LIMIT))

    def _key(self, guider, schedule, sampler, shape):
        """(what a run is, as a Fitted, the shape of a sample); None, and the log says why, where nothing learnt can serve it."""
        try:
            if shape is None:
                raise ValueError(f"{type(sampler).__name__} does not say what it samples")
            described = describe(sampler, stepping(sampler), guider, schedule.keys)
            if schedule.keys[-1] != 0:
                raise ValueError(f"the schedule of {type(sampler).__name__} ends at sigma {schedule.keys[-1]:.4g}, not at 0")
            return described, tuple(shape[1:])
        except (RuntimeError, TypeError, ValueError) as error:  # a scale for each sample, too
            self._say(str(error), "nothing is learnt: %s; these runs go by `calls: %d` alone", error, self.settings.calls)
        return None

    def _served(self, key, known, alone, dtype):
        """The policy of runs like ``key``, which step as is ``known``, by what was learnt; None where nothing serves them."""
        for of, learnt in sorted(self._known.copy().items(), key=lambda item: (item[1].reason is not None, item[0] != key)):
            try:
                found = self._made(of, learnt, key, known, alone, dtype)
            except ValueError as error:
                if of == self._of_file:
                    self._say((of, key), "learn=%r: %s; the file stays, and these runs do without", str(self._path), error)
            else:
                self._known[key] = learnt
                return found
        return alone if key in self._known else None

    def _made(self, of, learnt, key, known, alone, dtype):
        """The same by what was ``learnt`` from a run like ``of``. ValueError where that does not serve them."""
        (theirs, size), (ours, shape) = of, key
        if size != shape:
            raise ValueError(f"x is {list(shape)} here, it was learnt for {list(size)}")
        if learnt.calibration is None:
            require_same(theirs, ours, dtype)
            return alone
        nodes, wanted = learnt.taught_on, len(ours.sigmas) - 1
        if nodes < wanted and not learnt.tells:
            raise ValueError(f"it was learnt on {nodes} nodes for {learnt.calls} calls, too few for a run of {wanted}")
        if learnt.better and goes_on(learnt.calibration.fitted, ours):
            raise ValueError(f"it was learnt down to sigma {learnt.calibration.fitted.sigmas[-2]:.3g}, this run goes further")
        found = policy_for(learnt.calibration, self.settings, ours, known, dtype)
        return replace(found, reason="learnt") if learnt.better else alone

    def _say(self, once, *message):
        """Log a warning, but no other one for ``once``."""
        if once not in self._said:
            self._said.add(once)
            logger.warning(*message)

    def opens(self, guider, run):
        """``run`` is about to ask for its first output. ValueError where the file is of another checkpoint: that is one call."""
        x = run.opening.arguments.get("x")
        key = self._key(guider, run.schedule, run.sampler, getattr(x, "shape", None))
        run.report.learnt = None if run.recording is not None else self._known.get(key)  # it may be learnt by now
        of_file = self._file is not None and run.report.learnt is self._file
        if self._checked or not of_file or not isinstance(run.policy, Calibrated):
            return
        from .calibration.fingerprint import fingerprint, same
        from .calibration.host import Unasked

        try:
            with torch.no_grad(), _undrawn(x.device):
                found = fingerprint(run, self._of_file[0].sigmas)
        except Unasked as error:
            self._say(str(error), "learn=%r: whether it is of this checkpoint is not known: %s", str(self._path), error)
            return
        if not same(found, self._file.calibration.about["fingerprint"]):
            raise ValueError(
                f"learn={str(self._path)!r}: it was learnt from another checkpoint, which answered fixed noise otherwise; remove "
                "the file, or name another one"
            )
        self._checked = True

    def went(self, run):
        """``run`` has gone by what was learnt; if its sampler asked its denoiser by itself, of what checkpoint nobody knows."""
        if run.opening is None and isinstance(run.policy, Calibrated) and self._file is not None and not self._checked:
            self._say(
                "unasked", "learn=%r: whether it is of this checkpoint is not known, since %s asks its denoiser by itself; use "
                "the file once with Heun's, Euler's or DPM++2M's sampler", str(self._path), type(run.sampler).__name__,
            )  # fmt: skip

    def learn(self, guider, run):
        """Learn from the recorded ``run``, unless that was done meanwhile. Raises nothing but what interrupts the program."""
        key = self._key(guider, run.schedule, run.sampler, run.recording.shape)
        if key is None or self._moved(guider, run.recording, key):
            return
        try:
            with self._lock:
                if key in self._known or self._busy.setdefault(key, run) is not run:
                    return
            learnt = self._learnt(guider, run)
            if self._moved(guider, run.recording, key):
                return
            self._known[key] = run.report.learnt = learnt
        finally:
            if self._busy.get(key) is run:
                del self._busy[key]
        logger.log(logging.INFO if learnt.reason is None else logging.WARNING, "%s", learnt)
        if learnt.calibration is not None and self._path and "fingerprint" in learnt.calibration.about:
            self._save(learnt)

    def _moved(self, guider, recording, key):
        """Whether another scale was set than the one of ``recording``, so that nobody knows what was learnt; the log says so.

        Where it was set in the middle of the run, once: of hosts that do so in every run there is nothing to learn.
        """
        behind = recording.fault is None and not same_scale(guider.scale, recording.scale)
        moved = behind or (recording.moved and ("moved", key) not in self._said)
        if moved:
            self._say(
                ("moved", key), "nothing is learnt from a run at scale %s, as the guider's is %s now: the next one is a full run",
                recording.scale, guider.scale,
            )  # fmt: skip
        return moved

    def _learnt(self, guider, run):
        from .calibration.learn import learnt

        try:
            if run.recording.fault is not None:
                raise ValueError(run.recording.fault)
            undrawn = _undrawn(run.recording.x.device) if run.recording.draws else nullcontext()
            with torch.no_grad(), undrawn:
                return learnt(guider, run)
        except Exception as error:  # the picture is there, and must not be lost for what is only to serve the next one
            return Learnt(self.settings.calls, reason=first_line(error))

    def _save(self, learnt):
        if self._path.exists():
            return
        try:
            learnt.calibration.save(self._path)
        except OSError as error:
            logger.warning("learn=%r: what was learnt was not written (%s)", str(self._path), error)


def _is_there(path):
    """Whether there is something at ``path``. ValueError for one that nothing can be at."""
    try:
        return path.exists()
    except OSError as error:
        raise ValueError(f"learn={str(path)!r}: no path of a file ({error.strerror}); name another") from None


def _undrawn(device):
    """Within, random numbers are drawn aside: afterwards they go on as if there had been none, those of other threads, too."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
