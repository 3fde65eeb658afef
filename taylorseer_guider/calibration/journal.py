"""What a person sees while a calibration runs, and what lets an interrupted one go on."""

import json
import os
from pathlib import Path

import torch

from .ode import Reference


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
    values) are what walks depend on besides: one folder serves several.
    """

    def __init__(self, folder, job, options):
        self.folder = None if folder is None else Path(folder)
        self._plans, self._job = {}, json.loads(json.dumps(job))
        self._options = ", ".join(f"{name} {value}" for name, value in options.items())
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._plans = self._earlier()
            self._write_plans()

    def _earlier(self):
        """The plans in the folder. ValueError where they are of another job."""
        path = self.folder / "notes.json"
        if not path.exists():
            return {}
        held = json.loads(path.read_text())
        there, job = held["job"], self._job
        if there != job:
            differing = ", ".join(f"{key} {there.get(key)!r} / {job[key]!r}" for key in job if there.get(key) != job[key])
            raise ValueError(f"folder={str(self.folder)!r} holds another calibration (there / here: {differing}); empty it")
        return held["plans"]

    # Plans that were walked, and what came of them.

    def plans(self, count):
        """{plan: dB} of those with ``count`` nodes: what an interrupted or shorter search has found counts in the next."""
        start, found = self._key(()), {}
        for key, db in self._plans.items():
            plan = tuple(map(int, key.removeprefix(start).split())) if key.startswith(start) else ()
            if len(plan) == count:
                found[plan] = db
        return found

    def keep_plan(self, nodes, db):
        self._plans[self._key(nodes)] = db
        if self.folder is not None:
            self._write_plans()
        return db

    def _key(self, nodes):
        return f"{self._options}: {' '.join(map(str, nodes))}"

    def _write_plans(self):
        text = json.dumps({"job": self._job, "plans": self._plans}, indent=1)
        _replace(self.folder / "notes.json", lambda draft: draft.write_text(text))

    # Recordings: the fine solutions of runs.

    def reference(self, run):
        """The Reference of the run of this number, mapped into memory where it lies in the folder; None if there is none."""
        path = self.folder and self.folder / f"solution-{run}.pt"
        return Reference(**torch.load(path, weights_only=True, mmap=True)) if path and path.exists() else None

    def keep_reference(self, run, reference):
        """``reference``, from the folder if there is one: then its tensors take no memory."""
        if self.folder is None:
            return reference
        _replace(self.folder / f"solution-{run}.pt", lambda draft: torch.save(vars(reference), draft))
        return self.reference(run)

    # Refinements: how far weights were moved, and with how many gradients.

    def move(self, nodes):
        """{"move": tensor, "spent": gradients} of the plan ``nodes``; None if it was not refined here."""
        path = self._move_file(nodes)
        return torch.load(path, weights_only=True) if path and path.exists() else None

    def keep_move(self, nodes, move, spent):
        if path := self._move_file(nodes):
            _replace(path, lambda draft: torch.save({"move": move, "spent": spent}, draft))

    def _move_file(self, nodes):
        name = self._key(nodes).replace(": ", "-").replace(", ", "-").replace(" ", "_")
        return self.folder and self.folder / f"refined-{name}.pt"


def _replace(path, write):
    """Have ``write(draft)`` make the file ``path``, whole or not at all."""
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
