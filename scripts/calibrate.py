# PYTHON_ARGCOMPLETE_OK
"""``taylorseer-calibrate``, from a checkout."""

import sys

from taylorseer_guider.commands.calibrate import main

if __name__ == "__main__":
    sys.exit(main(prog="calibrate.py"))
