"""What sample.py left in folders: one JSON beside each picture, and the pictures that it names."""

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...engines.errors import UserError
from ...files import first_line
from ..results import SHEET, SUFFIXES


@dataclass(frozen=True)
class Entry:
    """One result: its ``figures``; its ``pictures``, files by role; the run's ``size``, (width, height)."""

    figures: dict
    pictures: dict
    size: tuple

    @property
    def alike(self):
        """Equal where two results can be laid over one another: made of the same picture, with the same seed."""
        figures = self.figures
        return str(figures["name"]), str(figures["seed"]), self.size, str(figures["made_from"].get("picture"))


def find_entries(results):
    """(entries, faults) of ``results``: folders, JSON files or the pictures beside them. A fault is a line that names a file.

    UserError where a path of ``results`` is not there, or nothing can be shown.
    """
    entries, faults = [], []
    for path in dict.fromkeys(file for result in results for file in _files(Path(result))):
        try:
            entries.append(_read(path, faults))
        except UserError as error:
            faults.append(str(error))
    if not entries:
        raise UserError("; ".join(faults))
    return entries, faults


def _files(result):
    """The JSON files that ``result`` stands for."""
    if not result.exists():
        raise UserError(f"{result}: no such file or folder; name a folder that sample.py wrote, or one of its pictures")
    if not result.is_dir():
        stems = [result.stem, *(result.stem.removesuffix(suffix) for suffix in (*SUFFIXES.values(), SHEET))]
        records = [result.with_name(f"{stem}.json") for stem in stems]
        return [next((record for record in records if record.exists()), records[0])]
    found = sorted(file for file in result.glob("*.json") if not _is_other(file.name))
    if not found:
        raise UserError(f"{result}: no result of sample.py in this folder (a JSON beside each picture); name another")
    return found


def _is_other(name):
    """Whether the JSON ``name`` is a map, or the one that commands before 0.4 wrote."""
    return name == "report.json" or name.endswith("_trajectory.json")


def _read(path, faults):
    """The Entry at ``path``. UserError where there is none, or no picture of its run; others not there are ``faults``."""
    try:
        figures = json.loads(path.read_text("utf-8"))
        _require(figures)
        files = {role: path.parent / name for role, name in figures["pictures"].items() if role in SUFFIXES}
        run = files["run"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{path}: not a result of sample.py ({reason}); make it again, or leave it out") from None
    size, pictures = _size(run), {}
    for role, file in files.items():
        try:
            if _size(file) != size and role != "low_resolution":
                raise UserError(f"{file}: not of the size of {run.name}")
            pictures[role] = file
        except UserError as error:
            faults.append(f"{error}; {path.stem} is shown without it")
    return Entry(figures, pictures, size)


def _require(figures):
    """KeyError or TypeError where something lacks that nothing can be shown without."""
    _ = [figures[name] for name in ("name", "job", "seed", "made_from", "pictures")]
    if not isinstance(figures["calls"], int):
        raise TypeError("calls: not a whole number")
    if not isinstance(figures["made_from"], dict):
        raise TypeError("made_from: not a mapping")
    _ = [visit["action"] for visit in (figures.get("report") or {}).get("visits") or []]


def _size(file):
    """(width, height) of the picture in ``file``."""
    try:
        with Image.open(file) as opened:
            return opened.size
    except FileNotFoundError:
        raise UserError(f"{file}: no such picture") from None
    except OSError as error:
        raise UserError(f"{file}: not a picture that can be read ({first_line(error)})") from None
