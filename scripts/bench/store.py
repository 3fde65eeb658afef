"""Rows on disk, a line each, written as they are measured: a benchmark that was stopped goes on where it was."""

import json
from pathlib import Path

from taylorseer_guider.commands.pictures import write_text
from taylorseer_guider.engines.errors import UserError

from .devices import name_of

KEY = ("table", "label", "budget", "setting")


class Store:
    """The rows of one workload at one scale. ``made`` is what decides the figures: it must be as it was when rows are added.

    ``about`` says with what the first of them were measured. Every row that is added has the name of its
    ``device``; those from before there was a choice have none, and are of a CPU.
    """

    def __init__(self, path, made, about=None, device="cpu"):
        self.path, self.device, self.rows = Path(path), name_of(device), []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole, torn = contents(self.path) if self.path.exists() else ([], False)
        if whole:
            self._take(whole, torn, made)
        else:  # or it was cut off in its first line
            write_text(self.path, json.dumps({"made": made, "about": about}) + "\n")

    def _take(self, whole, torn, made):
        before = whole[0].get("made")
        if before != json.loads(json.dumps(made)):
            raise UserError(f"{self.path}: made with {before}, now it is {made}; name another --out-dir, or remove that file")
        self.rows = whole[1:]
        if torn:
            write_text(self.path, "".join(json.dumps(content) + "\n" for content in whole))

    def find(self, **key):
        """The row with this key, or None where it was not measured yet."""
        wanted = {name: key.get(name) for name in KEY}
        return next((row for row in self.rows if {name: row.get(name) for name in KEY} == wanted), None)

    def add(self, row):
        row = {**row, "device": self.device}
        self.rows.append(row)
        self._append(row)

    def _append(self, row):
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def contents(path):
    """(the lines of a file of rows, its head first; whether one was cut off while it was written, and is left out)."""
    lines = path.read_text().splitlines(keepends=True)
    whole = [content for content in map(_content, lines) if content is not None]
    return whole, len(whole) < len(lines)


def _content(line):
    """The content of a line, or None of one that was cut off while it was written."""
    try:
        return json.loads(line) if line.endswith("\n") else None
    except json.JSONDecodeError:
        return None
