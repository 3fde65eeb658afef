# PYTHON_ARGCOMPLETE_OK
"""``taylorseer-sample``, from a checkout."""

import sys

from taylorseer_guider.commands.sample import main

if __name__ == "__main__":
    sys.exit(main(prog="sample.py"))
