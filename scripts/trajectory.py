# PYTHON_ARGCOMPLETE_OK
"""``taylorseer-trajectory``, from a checkout."""

import sys

from taylorseer_guider.commands.trajectory import main

if __name__ == "__main__":
    sys.exit(main(prog="trajectory.py"))
