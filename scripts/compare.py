# PYTHON_ARGCOMPLETE_OK
"""``taylorseer-compare``, from a checkout."""

import sys

from taylorseer_guider.commands.compare import main

if __name__ == "__main__":
    sys.exit(main(prog="compare.py"))
