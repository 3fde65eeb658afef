"""The files of each result: its pictures, and last of all, when they are whole, the record of what it is."""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..engines.errors import UserError
from .pictures import write_picture, write_text

SHEET = "_sheet"  # behind the name of a result, in that of its contact sheet
SUFFIXES = {"run": "", "full_run": "_full", "low_resolution": "_low", "bicubic": "_bicubic", "original": "_original"}


@dataclass(frozen=True)
class Made:
    """One result: ``name``, figures, and uint8 (H, W, 3) by what follows the name in that of the file (``SUFFIXES``)."""

    name: str
    figures: dict
    pictures: dict


@contextmanager
def into(folder):
    """``folder``, made if need be, is written into within. UserError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"--out-dir {folder}: cannot be written ({error.strerror}); choose another") from None


def require_folder_of(path):
    """UserError where no file can be written to ``path``, that of --out, since its folder is not there or closed."""
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: no such folder; make it first, or choose another")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"--out {path}: cannot be written; name a file elsewhere")


def write_result(folder, made):
    """Write all files of ``made``, in the place of an earlier one's. UserError where that fails; what is half written is gone."""
    try:
        forget(folder, made.name)
        for suffix, picture in made.pictures.items():
            write_picture(folder / f"{made.name}{suffix}.png", picture)
        written = {role: f"{made.name}{suffix}.png" for role, suffix in SUFFIXES.items() if suffix in made.pictures}
        write_text(folder / f"{made.name}.json", json.dumps({**made.figures, "pictures": written}, indent=1))
    except OSError as error:
        why = error.strerror or error
        remedy = "make room, or choose another, and run the same command again: finished pictures are kept"
        raise UserError(f"--out-dir {folder}: {made.name} cannot be written ({why}); {remedy}") from None


def forget(folder, name):
    """Remove the record of an earlier result ``name``, and what stood beside its picture, which would not be of the new one."""
    (folder / f"{name}.json").unlink(missing_ok=True)
    for suffix in filter(None, SUFFIXES.values()):
        (folder / f"{name}{suffix}.png").unlink(missing_ok=True)


def read_record(folder, name):
    """The record of the result ``name``: its figures, ``source`` and ``made_from``. None where there is none that can be read."""
    try:
        record = json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("made_from"), dict) else None


def read_folder(folder):
    """{file of a picture: its record} of all results in ``folder``, with those of the one ``report.json`` of earlier versions."""
    folder = Path(folder)
    records = {f"{path.stem}.png": read_record(folder, path.stem) for path in sorted(folder.glob("*.json"))}
    return {**_earlier(folder / "report.json"), **{name: record for name, record in records.items() if record}}


def _earlier(path):
    """The figures by picture that commands before 0.4 wrote into one file."""
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text()) if path.is_file() else None
        if not isinstance(known, dict):
            raise ValueError("holds no figures by picture")
        return known
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a report of this command ({error}); move it away or choose another --out-dir") from None
