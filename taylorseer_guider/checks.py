"""Reading a calibration's file, for which nobody vouches: its text is looked at before it is parsed, and then each value.

Every value is checked for its type and range, and a fault is named.
"""

import math
import re
import stat
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

import yaml

from .files import first_line
from .values import brief

LARGEST_FILE = 1 << 20  # bytes; the largest that ships takes a tenth of it
DEEPEST = 4  # brackets in brackets; a file has two levels of them
BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}
LINES = re.compile("\r\n?|\x85|\u2028|\u2029")  # what YAML takes for the end of a line, beside \n
# anchors, aliases and tags; lists in lists, keys that are no words, and indentation beyond what a file has; what no text has, and
# what a parser passes over at the beginning of a line
NOT_OURS = re.compile(r"(?:^|[\s,\[{:-])[&*!](?=\S)|^ *(?:[-?] +){4}|^ *\?|^ {17}|[\0\ufeff]", re.MULTILINE)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # numbers, strings and lists only, either of them


class Unreadable(ValueError):
    """A file that cannot even be read, said in one line."""


def read(path, name):
    """The bytes of a regular file of no more than LARGEST_FILE. ValueError for what cannot be read."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise ValueError("it is no regular file")
        with Path(path).open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except (OSError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise Unreadable(f"{name}={str(path)!r}: cannot be read ({reason}); give the path of a file") from None
    if len(text) > LARGEST_FILE:
        raise Unreadable(f"{name}={str(path)!r}: larger than {LARGEST_FILE >> 20} MiB, so not a calibration")
    return text


def parsed(text):
    """The plain data that the YAML ``text`` (bytes) holds. ValueError, YAMLError or RecursionError for what is none's."""
    return yaml.load(_harmless(text), Loader=LOADER)


def _harmless(text):
    """The bytes ``text`` as characters, if these may be parsed: without anchors, aliases and tags, and nested no deeper than a
    calibration is. They are the very ones that are parsed, in UTF-8, with one kind of line: a parser that knows more of either
    would read what nobody has looked at.
    """
    try:
        text = LINES.sub("\n", text.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8; save it as one") from None
    if found := NOT_OURS.search(text):
        raise ValueError(f"a calibration has no {brief(found[0])}")
    if max(accumulate(BRACKETS[each] for each in re.findall(r"[][{}]", text)), default=0) > DEEPEST:
        raise ValueError(f"a calibration has no more than {DEEPEST} brackets in each other")
    return text


class Reader:
    """A mapping and the name under which faults in it are reported. Every method raises ValueError for what is not there."""

    def __init__(self, data, name):
        if not isinstance(data, Mapping):
            raise ValueError(f"{name} is not a mapping")
        self.data, self.name = data, name

    def get(self, key):
        if key not in self.data:
            raise ValueError(f"{self.name} has no entry {key!r}")
        return self.data[key]

    def only(self, *known):
        for key in self.data:
            if key not in known:
                raise ValueError(f"{self.name} has an unknown entry {brief(key)}")

    def inside(self, key, name):
        """The mapping ``data[key][name]``."""
        return Reader(Reader(self.get(key), key).get(name), f"{key} {brief(name)}")

    def keys(self, key):
        """The keys of the mapping ``data[key]``, which is not empty."""
        keys = list(Reader(self.get(key), key).data)
        return keys or self._fail(key, "a mapping with entries")

    def rows(self, key):
        """A reader for each mapping of the list ``data[key]``."""
        return [Reader(row, f"{self.name}: row {n}") for n, row in enumerate(self._list(key))]

    def text(self, key):
        value = self.get(key)
        return value if isinstance(value, str) and len(value) < 200 else self._fail(key, "a short text")

    def flag(self, key):
        value = self.get(key)
        return value if isinstance(value, bool) else self._fail(key, "true or false")

    def number(self, key):
        value = self.get(key)
        return float(value) if _is_number(value) else self._fail(key, "a finite number")

    def numbers(self, key, most=1e300):
        values = self._list(key)
        wanted = "a list of finite numbers" + (f" of at most {most:g}" if most < 1e300 else "")
        fit = all(_is_number(value) and abs(value) <= most for value in values)
        return tuple(map(float, values)) if fit else self._fail(key, wanted)

    def whole(self, key, least, most):
        value = self.get(key)
        return value if _is_whole(value, least, most) else self._fail(key, f"a whole number from {least} to {most}")

    def wholes(self, key, least, most):
        values = self._list(key)
        whole = all(_is_whole(value, least, most) for value in values)
        return tuple(values) if whole else self._fail(key, f"a list of whole numbers from {least} to {most}")

    def schedule(self, key):
        """Falling sigmas, at least one above 0, none below."""
        sigmas = self.numbers(key)
        falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
        return sigmas if len(sigmas) > 1 and falling and sigmas[-1] >= 0 else self._fail(key, "a list of falling sigmas")

    def rising(self, key, most):
        """Rising numbers, from 2 to ``most`` of them."""
        values = self.numbers(key)
        rises = all(a < b for a, b in zip(values, values[1:], strict=False))
        return values if 2 <= len(values) <= most and rises else self._fail(key, f"a list of 2 to {most} rising numbers")

    def _list(self, key):
        value = self.get(key)
        return value if isinstance(value, list) else self._fail(key, "a list")

    def _fail(self, key, wanted):
        raise ValueError(f"{self.name}: {key!r} should be {wanted}, not {brief(self.data[key])}")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)


def _is_whole(value, least, most):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
