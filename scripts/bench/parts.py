"""The parts of the benchmark: each measures what is not on disk yet, then writes its tables and plots."""

from pictures import write_text

from .compare import compare
from .plots import pareto
from .tables import budget_table, seen_table


def run(args):
    """Do the parts that ``args`` asks for, in its order."""
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        DO[part](args)


def compare_methods(args):
    """Every method on every workload: a table and a plot for each workload, as soon as it is measured."""
    done = {}
    for kind, scale, rows in compare(args):
        done.setdefault(kind.name, {})[scale] = rows
        tables = [budget_table(kind.name, scale, rows)]
        if kind.perceptual:
            tables.append(seen_table(kind.name, scale, rows))
        write_text(args.out_dir / f"{kind.name}-{scale:g}.txt", "\n\n".join(tables) + "\n")
        pareto(kind.name, done[kind.name], args.out_dir / f"{kind.name}.png")
        print("\n\n".join(tables), end="\n\n", flush=True)


DO = {"methods": compare_methods}
