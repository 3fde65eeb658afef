# PYTHON_ARGCOMPLETE_OK
"""Lay results side by side to look at: one HTML page, with nothing outside it, that any browser opens."""

import sys
from pathlib import Path

from .command import Parser, complete, exit_code

PROG = "taylorseer-compare"


def parse(argv, prog=PROG):
    parser = Parser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULT", help="a folder that sample.py wrote, or one of its pictures")
    add("--out", type=Path, default=Path("report.html"), metavar="FILE", help="the page")
    complete(parser)
    return parser.parse_args(argv)


def write_report(results, path):
    """Write the page of ``results`` to ``path`` and say so. Returns what could not be shown, lines that name files."""
    from .page.content import page_content
    from .page.entries import find_entries
    from .page.write import write_page

    entries, faults = find_entries(results)
    content = page_content(entries, faults)
    write_page(path, content)
    print(f"{path}: {content['summary']}, {path.stat().st_size / 1e6:.1f} MB")
    return faults


def main(argv=None, prog=PROG):
    args, faults = parse(argv, prog), []
    mistakes = (ValueError, OSError)
    code = exit_code(prog, lambda: faults.extend(write_report(args.results, args.out)), mistakes, "no page was written")
    for fault in faults:
        print(f"{prog}: {fault}", file=sys.stderr)
    return code or int(bool(faults))
