"""What a person sees while a calibration runs, and what lets an interrupted one go on."""

import json
import os
from pathlib import Path


class Progress:
    """A bar that counts denoiser calls and says what they are for. Without tqdm, or where it is not wanted, nothing."""

    def __init__(self, shown):
        self._bar = _bar() if shown else None

    def expect(self, calls):
        """How many calls there will be in all."""
        if self._bar is not None:
            self._bar.total = self._bar.n + calls
            self._bar.refresh()

    def say(self, what):
        if self._bar is not None:
            self._bar.set_description(what)

    def tick(self, calls=1):
        if self._bar is not None:
            self._bar.update(calls)

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


class Notes:
    """Plans that were walked and what came of them, kept in ``folder`` (None: only while the program runs).

    ``job`` (plain values) is what the folder's recordings are of. Raises ValueError where they are of another job. ``options``
    (plain values) are what the walks depend on besides: one folder serves several.
    """

    def __init__(self, folder, job, options):
        self._file = None if folder is None else Path(folder) / "notes.json"
        self._found, job = {}, json.loads(json.dumps(job))
        self._options = ", ".join(f"{name} {value}" for name, value in options.items())
        if self._file is None:
            return
        if self._file.exists():
            held = json.loads(self._file.read_text())
            if held["job"] != job:
                there = held["job"]
                differing = ", ".join(f"{key} {there.get(key)!r} / {job[key]!r}" for key in job if there.get(key) != job[key])
                raise ValueError(f"folder={str(folder)!r} holds another calibration (there / here: {differing}); empty it")
            self._found = held["plans"]
        self._job = job
        self._write()

    def known(self, count):
        """{plan: dB} of those with ``count`` nodes: what an interrupted or shorter search has found counts in the next."""
        start, found = self._key(()), {}
        for key, db in self._found.items():
            plan = tuple(map(int, key.removeprefix(start).split())) if key.startswith(start) else ()
            if len(plan) == count:
                found[plan] = db
        return found

    def put(self, nodes, db):
        self._found[self._key(nodes)] = db
        if self._file is not None:
            self._write()
        return db

    def _write(self):
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"job": self._job, "plans": self._found}, indent=1))
        os.replace(draft, self._file)

    def _key(self, nodes):
        return f"{self._options}: {' '.join(map(str, nodes))}"
