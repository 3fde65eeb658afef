"""How a script speaks to the person who runs it: a mistake is one line and exit code 2."""

import argparse
import sys


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def exit_code(name, work, mistakes, kept):
    """Run ``work()``. 0; or 2 after one line on what is in ``mistakes``; or 130 where it was interrupted, saying what is kept."""
    try:
        work()
    except mistakes as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; {kept}", file=sys.stderr)
        return 130
    return 0
