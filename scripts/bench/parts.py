"""The parts of the benchmark: each measures what is not on disk yet, then writes its tables and plots."""

from pictures import write_text

from . import inside, quality
from .compare import compare, compared, scales
from .kinds import KINDS
from .options import option_table, ranked
from .plots import pareto
from .tables import branch_table, budget_table, measured, seen_table

JUDGED = 8  # calls of those whose pictures are judged by the thousand


def run(args):
    """Do the parts that ``args`` asks for, in its order."""
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        DO[part](args)


def show(args, name, *tables):
    """Print ``tables``, and write them to a file of that name."""
    text = "\n\n".join(tables) + "\n"
    write_text(args.out_dir / f"{name}.txt", text)
    print(text, flush=True)


def compare_methods(args):
    """Every method on every workload: a table and a plot for each workload, as soon as it is measured."""
    done = {}
    for kind, scale, rows in compare(args):
        done.setdefault(kind.name, {})[scale] = measured(rows)
        tables = [budget_table(kind.name, scale, rows)]
        tables += [branch_table(kind.name, scale, rows)] if scale != 1 else []
        tables += [seen_table(kind.name, scale, rows)] if kind.perceptual else []
        show(args, f"{kind.name}-{scale:g}", *tables)
        pareto(kind.name, done[kind.name], args.out_dir / f"{kind.name}.png")


def judge_quality(args):
    """A thousand pictures of clothes a scale, by a classifier."""
    count = args.pictures or 1000
    for scale in scales(args, KINDS["fashion"]):
        rows = quality.measured(args, scale, compared(args, KINDS["fashion"], scale), [JUDGED], count)
        show(args, f"quality-{scale:g}", quality.table(scale, rows, count))


def look_inside(args):
    """Features inside the network: on the embedded model, and on Inf-DiT's where INFDIT_ROOT names a checkout."""
    for scale in [scale for scale in inside.SCALES if args.scales is None or scale in args.scales]:
        show(args, f"features-{scale:g}", inside.quality_table(scale, inside.compared(args, scale)))
    rows = inside.memory(args, "embedded", inside.ON_EMBEDDED, **inside.BATCH)
    tables = [inside.memory_table("embedded, 4 pictures of 96 px", rows)]
    if root := inside.infdit_root():
        rows = inside.memory(args, "infdit", inside.ON_INFDIT, root=root)
        tables.append(inside.memory_table("Inf-DiT's network, 8 layers of width 256, random weights, 32 -> 128 px", rows))
    else:
        print("skipped: Inf-DiT's network; set INFDIT_ROOT to a checkout of THUDM/Inf-DiT", flush=True)
    show(args, "memory", *tables)


def rank_options(args):
    """Every combination of the guider's options, ranked on each workload and over all."""
    rows = []
    for name, scale, found in ranked(args):
        rows += found
        print(f"{name}, scale {scale:g}\n{option_table(found, most=4)}\n", flush=True)
    show(args, "options", f"all\n{option_table(rows)}")


DO = {"methods": compare_methods, "quality": judge_quality, "features": look_inside, "options": rank_options}
