"""How engines and configs say what is wrong: one line, with its remedy."""

from contextlib import contextmanager

LONGEST = 300  # characters of somebody else's message


class UserError(ValueError):
    """A mistake that one line can explain, with its remedy."""


def first_line(error):
    """The first line of an exception's message, or its class where there is none; no longer than ``LONGEST``."""
    said = str(error).strip()
    return (said.splitlines()[0] if said else type(error).__name__)[:LONGEST]


@contextmanager
def explained(key, what="cannot be built"):
    """Turns whatever goes wrong in code that a config names into a UserError that names the config's ``key``.

    ValueErrors pass as they are: samplers, guiders and engines say with them what is wrong and what to do.
    """
    try:
        yield
    except (ValueError, FloatingPointError):
        raise
    except Exception as error:
        found = first_line(error)
        found = found if isinstance(error, (AttributeError, ImportError)) else f"{type(error).__name__}: {found}"
        raise UserError(f"{key}: {what} ({found}); compare with the files in configs/") from error
