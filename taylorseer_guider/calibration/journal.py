"""What a person sees while a calibration runs, and what lets an interrupted one go on."""

import json
import logging
from pathlib import Path

import torch

from ..files import first_line, replacing
from .ode import Reference

logger = logging.getLogger(__name__)


class Progress:
    """A bar that counts denoiser calls and says what they are for. Without tqdm, or where it is not wanted, nothing."""

    def __init__(self, shown):
        self._bar = _bar() if shown else None

    def counting(self, denoiser):
        """``denoiser``, whose calls move the bar."""

        def counted(*args, **kwargs):
            output = denoiser(*args, **kwargs)
            if self._bar is not None:
                self._bar.update()
            return output

        return counted

    def expect(self, calls):
        """How many calls are left. Searches end early and gradients call again, so it is said anew at every stage."""
        if self._bar is not None:
            self._bar.total = self._bar.n + calls
            self._bar.refresh()

    def say(self, what):
        if self._bar is not None:
            self._bar.set_description(what)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()


def _bar():
    try:
        from tqdm import tqdm
    except ImportError:  # which every host has; the package itself needs torch and omegaconf alone
        return None
    return tqdm(unit="call", dynamic_ncols=True)


class Journal:
    """What a calibration has found so far, kept in ``folder``; None: only while the program runs.

    ``job`` (plain values) is what the folder's recordings are of: ValueError where they are of another. ``options`` (plain
    values) are what refinements depend on besides: one folder serves several.
    """

    def __init__(self, folder, job, options):
        self.folder = None if folder is None else Path(folder)
        self._options = "-".join(f"{name}_{value}" for name, value in options.items())
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"folder={str(self.folder)!r}: cannot be made ({error.strerror}); name another") from None
            self._require(json.loads(json.dumps(job)))

    def _require(self, job):
        """ValueError where the folder is of another ``job``. Else it is of this one from now on."""
        path = self.folder / "job.json"
        try:
            there = json.loads(path.read_text()) if path.exists() else job
            there.keys()
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"folder={str(self.folder)!r}: job.json cannot be read ({first_line(error)}); empty it") from None
        if there != job:
            differing = ", ".join(f"{key} {there.get(key)!r} / {job[key]!r}" for key in job if there.get(key) != job[key])
            raise ValueError(f"folder={str(self.folder)!r} holds another calibration (there / here: {differing}); empty it")
        with replacing(path) as draft:
            draft.write_text(json.dumps(job, indent=1))

    # Recordings: the fine solutions of runs.

    def reference(self, run):
        """The Reference of the run of this number, mapped into memory where it lies in the folder; None if there is none."""
        return _loaded(self.folder and self.folder / f"solution-{run}.pt", Reference, mmap=True)

    def keep_reference(self, run, reference):
        """``reference``, from the folder if there is one: then its tensors take no memory."""
        if self.folder is None:
            return reference
        with replacing(self.folder / f"solution-{run}.pt") as draft:
            torch.save(vars(reference), draft)
        return self.reference(run) or reference

    # Refinements: how far a budget was moved, with how many gradients, and what it is judged by.

    def move(self, calls):
        """{"move": tensor, "spent": gradients, "least": float, "told": list} of that many ``calls``; None if there is none."""
        return _loaded(self._move_file(calls), _move)

    def keep_move(self, calls, move, spent, least, told=()):
        """``told`` is what each gradient was: (the move, the loss there, what it is judged by, the gradient)."""
        if path := self._move_file(calls):
            with replacing(path) as draft:
                torch.save({"move": move, "spent": spent, "least": least, "told": list(told)}, draft)

    def _move_file(self, calls):
        return self.folder and self.folder / f"refined-{self._options}-calls_{calls}.pt"


def _move(*, move, spent, least, **others):
    return {"move": move, "spent": spent, "least": least, **others}


def _loaded(path, made, **options):
    """What ``made(**found)`` makes of the dictionary in the file ``path``; None where there is none: it is made again."""
    if path is None or not path.exists():
        return None
    try:
        found = torch.load(str(path), weights_only=True, **options)  # torch 2.2 maps no Path
    except Exception as error:  # a file cut short raises one of many kinds
        logger.warning("%s cannot be read (%s), and is made again", path, first_line(error))
        return None
    try:
        return made(**found)
    except TypeError:
        logger.warning("%s holds something else, and is made again", path)
        return None
