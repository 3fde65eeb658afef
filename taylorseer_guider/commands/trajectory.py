# PYTHON_ARGCOMPLETE_OK
"""Draw what decides whether forecasts pay on a model: one full run, followed, and the lines of YAML to choose.

A PNG, a table and a JSON file for each picture. The run is the model's own, with every call made.
"""

import argparse
from pathlib import Path

from .command import PHOTOGRAPHS, Parser, above, add_model_options, exit_code, parsed, whole

PROG = "taylorseer-trajectory"


def parse(argv, prog=PROG):
    parser = Parser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, help="YAML with `engine` and `sampler_config`; default: the embedded model")
    add("--input-path", type=Path, help="a picture or a folder of them, to be enlarged; default: --photograph, shrunk first")
    add("--photograph", choices=PHOTOGRAPHS, default="coffee", help="one that the embedded model was not trained on")
    add("--shrink-first", action="store_true", help="shrink the input first")
    add("--out-dir", type=Path, default=Path("out"))
    add("--num-steps", type=int, help="steps of the schedule")
    add("--scale", type=float, help="guidance scale")
    add("--seed", type=whole(0, 2**62), default=0)
    add("--db", type=above(0), default=45.0, help="how near to the full run is near enough, in dB")
    add("--check", type=whole(1, 10_000), nargs="+", default=[], metavar="CALLS", help="also make real runs with so many calls")
    add_model_options(add)
    parser.set_defaults(guider="taylorseer")
    args = parsed(parser, argv)
    return argparse.Namespace(**{**vars(args), "shrink_first": args.shrink_first or args.input_path is None})


def run(args):
    from .map.command import map_all

    return map_all(args)


def main(argv=None, prog=PROG):
    args = parse(argv, prog)
    return exit_code(prog, lambda: run(args), (ValueError, FloatingPointError, OSError), "maps that are done are kept")
