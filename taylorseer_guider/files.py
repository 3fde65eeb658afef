"""Files: written whole, or not at all; and what went wrong with them, or with anything else, in a part of one line."""

import threading
from contextlib import contextmanager

LONGEST = 300  # characters of somebody else's message
PICTURES = ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"  # suffixes of those that are read


def first_line(error):
    """What an exception says, or of what kind it is, as part of one line, no longer than ``LONGEST``."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:LONGEST]


@contextmanager
def replacing(path):
    """A file beside ``path`` to write to; it takes the place of ``path`` only when all went well. Each thread has its own."""
    partial = path.with_name(f".{path.name}.{threading.get_native_id()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
