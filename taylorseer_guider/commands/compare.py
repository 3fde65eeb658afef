# PYTHON_ARGCOMPLETE_OK
"""Lay results side by side to look at: one HTML page, with nothing outside it, that any browser opens.

Its pictures are without loss and take about 1.6 bytes a pixel: seven of 448 x 300 make a page of 1.3 MB.
"""

import sys
from pathlib import Path

from .command import Parser, complete, exit_code

PROG = "taylorseer-compare"


def parse(argv, prog=PROG):
    parser = Parser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULT", help="a folder that sample.py wrote, or one of its pictures")
    add("--out", type=Path, default=Path("report.html"), metavar="FILE", help="the page")
    add("--figures", action="store_true", help="print the page's figures, too")
    complete(parser)
    return parser.parse_args(argv)


def write_report(results, path, figures=False):
    """Write the page of ``results`` to ``path`` and say so, and its ``figures``. Returns lines that name what is not shown."""
    from .page.content import page_content
    from .page.entries import find_entries
    from .page.tables import in_text
    from .page.write import write_page

    entries, faults = find_entries(results)
    content = page_content(entries, faults)
    write_page(path, content)
    print(f"{path}: {content['summary']}, {path.stat().st_size / 1e3:,.0f} kB")
    if figures:
        print("\n".join(f"\n{in_text(group)}" for group in content["groups"]))
    return faults


def compare_all(args, prog):
    """Do what was asked for. The exit code: 1 where something could not be shown. ValueError where no page can be written."""
    from .results import require_folder_of

    require_folder_of(args.out)
    if args.out.is_dir():
        raise ValueError(f"--out {args.out}: a folder; name a file in it")
    faults = write_report(args.results, args.out, args.figures)
    for fault in faults:
        print(f"{prog}: {fault}", file=sys.stderr)
    return 1 if faults else 0


def main(argv=None, prog=PROG):
    args = parse(argv, prog)
    return exit_code(prog, lambda: compare_all(args, prog), (ValueError, OSError), "no page was written")
