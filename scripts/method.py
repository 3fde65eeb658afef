"""Draw what a forecast does and how far it is off, from real runs: forecast.png and error.png, and the slopes as a table."""

import os
import sys
from pathlib import Path

from taylorseer_guider.commands.command import Parser, exit_code, whole

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "taylorseer_guider"


def parse(argv):
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--forecast", type=Path, default=HERE / "forecast.png", help="where the picture of one run goes")
    add("--error", type=Path, default=PACKAGE / "error.png", help="where the plot of errors goes")
    add("--interval", type=whole(1, 19), default=3, help="of the run that is drawn: the network is called at every N-th node")
    add("--size", type=whole(4, 300), default=48, help="pixels of the held-out crop")
    return parser.parse_args(argv)


def run(args):
    from explain import plots, runs, slopes

    crop, mixture = runs.embedded(args.size), runs.mixture()
    options = {"interval": args.interval, "forecast": {"quantity": "denoised", "coordinate": "rho"}}
    nodes, report = runs.foretold(crop, options, bar=True)
    plots.forecast_picture(nodes, runs.pixels(crop, nodes), args.forecast)
    print(f"{os.path.relpath(args.forecast)}: {report.calls} calls, {report.forecasts} forecasts")
    measured = {subject.name: slopes.measure(subject, bar=True) for subject in (mixture, crop)}
    plots.error_picture(measured, args.error)
    print("\n".join(slopes.table(name, rows) for name, rows in measured.items()))
    print(f"{os.path.relpath(args.error)}: these errors")


def main(argv=None):
    args = parse(argv)
    return exit_code("method.py", lambda: run(args), (ValueError, OSError), "pictures are written whole or not at all")


if __name__ == "__main__":
    sys.exit(main())
