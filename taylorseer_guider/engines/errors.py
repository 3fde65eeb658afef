"""How engines and configs say what is wrong: one line, with its remedy."""

from contextlib import contextmanager

from ..files import first_line


class UserError(ValueError):
    """A mistake that one line can explain, with its remedy."""


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
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{key}: {what} ({reason}); compare with the files in configs/") from error
