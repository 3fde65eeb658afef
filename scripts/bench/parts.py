"""The parts of the benchmark: each measures what is not on disk yet, then writes its tables and plots."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from taylorseer_guider.commands.pictures import write_text

from . import ablate as ablations
from . import accelerator, clock, guard, inside, learnt, quality, reach, unlike
from .compare import asked, compare, compared, references, scales
from .devices import clock_of, moved, name_of, ready, whereabouts
from .fits import fit
from .kinds import KINDS, LINES, shipped_for
from .measure import bfloat16_floor
from .methods import SOLVERS, by_solvers, ours
from .options import option_table, ranked
from .peers.solvers import available
from .plots import pareto
from .store import contents
from .tables import DUELS, branch_table, budget_table, budgets_of, measured, seen_table, short_table
from .workloads import embedded

CLOCKED, SIZES = (5, 8), (48, 96)  # calls and pixels of what is timed
PRICED = ((4, 3, 256, 256), (1, 3, 1024, 1024), (1, 3, 2048, 2048))  # what a forecast is timed on
ABLATED = {"mixture": (2.5,), "hsc64": (1.0,), "fashion": (3.0,), "embedded": (2.5,)}  # scales
GUARDED = {"mixture": (2.5,), "hsc64": (1.0,)}  # scales
JUDGED = 8  # calls of those whose pictures are judged by the thousand


def run(args):
    """Do the parts that ``args`` asks for, in its order. ValueError, before anything is loaded, where its device is not there."""
    ready(args.device)
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out-dir {args.out_dir}: cannot be made ({error.strerror}); name another folder") from None
    offered = {scale for name in args.workloads for scale in KINDS[name].scales}
    if args.scales and args.parts != ["page"] and not offered & set(args.scales):
        raise ValueError(f"--scales {args.scales}: these workloads have {', '.join(f'{scale:g}' for scale in sorted(offered))}")
    for part in args.parts:
        DO[part](args)


def show(args, name, *tables, rows=()):
    """Print ``tables``, and write them to a file of that name; last, where ``rows`` are of, if not of a CPU."""
    text = "\n\n".join([*tables, *filter(None, [whereabouts(rows)])]) + "\n"
    write_text(args.out_dir / f"{name}.txt", text)
    print(text, flush=True)


def compare_methods(args):
    """Every method on every workload: a table and a plot for each workload, as soon as it is measured."""
    for kind, scale, rows in compare(args):
        tables = [budget_table(kind.name, scale, rows)]
        tables += [branch_table(kind.name, scale, rows)] if scale != 1 else []
        tables += [seen_table(kind.name, scale, rows)] if kind.perceptual else []
        show(args, f"{kind.name}-{scale:g}", *tables, rows=rows)
        pareto(kind.name, known(args.out_dir, kind.name), args.out_dir / f"{kind.name}.png")


def learn(args):
    """What one picture teaches, on every workload: a table each, then all in short."""
    todo = [(KINDS[name], scale) for name in args.workloads for scale in scales(args, KINDS[name])]
    for kind, scale in todo:
        rows, others = learnt.compared(args, kind, scale), learnt.rows_in(args.out_dir / f"{kind.name}-{scale:g}.jsonl")
        show(args, f"learnt-{kind.name}-{scale:g}", learnt.table(kind.name, scale, rows, others), rows=rows)
    show(args, "learnt", learnt.summary(args.out_dir, [(kind.name, scale) for kind, scale in todo]))


def reach_out(args):
    """One calibration at other steps, samplers, scales and sizes."""
    found = reach.compared(args)
    rows = [row for same in found.values() for row in same]
    show(args, "reach", *(reach.table(title, same) for title, same in found.items()), rows=rows)


def enlarge_unlike(args):
    """The shipped calibration on pictures that it was not fitted on the like of."""
    rows = unlike.compared(args)
    show(args, "unlike", unlike.table(rows), rows=rows)


def stand_guard(args):
    """A calibration that falls back on theory where it is surprised, on training pictures."""
    for name in [name for name in GUARDED if name in args.workloads]:
        for scale in asked(args, GUARDED[name]):
            rows = guard.measured(args, KINDS[name], scale)
            show(args, f"guard-{name}-{scale:g}", guard.table(name, scale, rows), rows=rows)


def judge_quality(args):
    """A thousand pictures of clothes a scale, by a classifier."""
    count = args.pictures or 1000
    for scale in scales(args, KINDS["fashion"]):
        rows = quality.measured(args, scale, compared(args, KINDS["fashion"], scale), [JUDGED], count)
        show(args, f"quality-{scale:g}", quality.table(scale, rows, count), rows=rows)


def look_inside(args):
    """Features inside the network: on the embedded model, and on Inf-DiT's where INFDIT_ROOT names a checkout."""
    for scale in asked(args, inside.SCALES):
        rows = inside.compared(args, scale)
        show(args, f"features-{scale:g}", inside.quality_table(scale, rows), rows=rows)
    rows = inside.memory(args, "embedded", inside.ON_EMBEDDED, **inside.BATCH)
    tables = [inside.memory_table("embedded, 4 pictures of 96 px", rows)]
    if root := inside.infdit_root():
        rows = inside.memory(args, "infdit", inside.ON_INFDIT, root=root)
        tables.append(inside.memory_table("Inf-DiT's network, 8 layers of width 256, random weights, 32 -> 128 px", rows))
    else:
        print("skipped: Inf-DiT's network; set INFDIT_ROOT to a checkout of THUDM/Inf-DiT", flush=True)
    show(args, "memory", *tables, rows=rows)


def watch_the_clock(args):
    """What runs, forecasts and half precision cost on this machine."""
    todo, watch = _shipped(args), clock_of(args.device)
    single = [moved(embedded.held_out(1.0, 1, size), args.device) for size in SIZES]
    rows = [row for workload in single for row in clock.side_by_side(workload, todo, clock=watch)]
    path = shipped_for(1)
    costs = forecasts() if args.device == "cpu" else []  # what a visit tells of a device is the time to queue it
    low = list(halves(args, path))
    known = {"device": name_of(args.device), "runs": rows, "forecasts": costs, "bfloat16": low}
    write_text(args.out_dir / "clock.json", json.dumps(known, indent=1))
    tables = [clock.run_table(rows), *([clock.forecast_table(costs)] if costs else []), clock.floor_table(low)]
    show(args, "clock", *tables, rows=[known])


def forecasts():
    """What a forecast visit costs, with calibrations as well."""
    kinds = {"calibrated": {}, "with 4x4 means": {"low": True}}
    with TemporaryDirectory() as folder:
        files = {label: clock.calibrated_for_nothing(Path(folder) / f"{label}.yaml", **more) for label, more in kinds.items()}
        return [row for shape in PRICED for row in clock.forecast_cost(files, shape)]


def halves(args, calibration):
    """What a bfloat16 network changes, on the embedded model at scale 1."""
    count = args.pictures or KINDS["embedded"].pictures
    dtypes = (torch.float32, torch.bfloat16)
    single, low = (moved(embedded.held_out(1.0, count, dtype=dtype), args.device) for dtype in dtypes)
    exact, full = references(single, args.out_dir / "embedded-1.safetensors")
    return bfloat16_floor(single, low, calibration, exact, full)


def use_accelerator(args):
    """Ours and solvers on ``--device``, the denoiser as it is, compiled, and as a CUDA graph."""
    kind = KINDS["embedded"]
    found = accelerator.measured(kind.held_out(1.0, args.pictures or 4), _shipped(args), args.device)
    rows = list(tqdm(found, desc=f"on {args.device}", unit="row", leave=False))
    write_text(args.out_dir / "accelerator.json", json.dumps(rows, indent=1))
    show(args, "accelerator", accelerator.table(rows))


def _shipped(args):
    """Ours, and on an accelerator solvers of others, on the embedded model at scale 1, with the calibration that ships."""
    fits = fit(KINDS["embedded"], 1.0, CLOCKED, args.out_dir / "fits", device=args.device)
    found = [method for method in ours(CLOCKED, fits) if method.label in DUELS]
    if args.device != "cpu":
        steps, _ = available()
        found += [method for method in by_solvers(CLOCKED, steps, fits) if method.family == SOLVERS and method.label in LINES]
    return found


def page(args):
    """What was measured so far, in short: ours, and whom they are held against, on every workload; and the plots."""
    show(args, "page", *in_short(args.out_dir, args.workloads))
    for name in args.workloads:
        if by_scale := known(args.out_dir, name):
            pareto(name, by_scale, args.out_dir / f"{name}.png")


def in_short(folder, workloads):
    """A short table of each workload and scale that has rows in ``folder``."""
    for name in workloads:
        for scale, made, rows in on_disk(folder, name):
            same = made.get("network") == KINDS[name].made(scale).get("network")
            yield short_table(name if same else f"{name}, earlier weights", scale, rows)


def known(folder, name):
    """{scale: rows} of the workload ``name`` that are on disk."""
    return {scale: rows for scale, _, rows in on_disk(folder, name)}


def on_disk(folder, name):
    """(scale, what decides its figures, rows) of the workload ``name``."""
    for scale in KINDS[name].scales:
        path = folder / f"{name}-{scale:g}.jsonl"
        head, *rows = (contents(path)[0] if path.exists() else []) or [None]
        if budgets_of(rows := measured(rows)):
            yield scale, head["made"], rows


def ablate(args):
    """What of a calibration brings what, and what the sigma that a network is told would bring beside it."""
    for name in [name for name in ABLATED if name in args.workloads]:
        for scale in asked(args, ABLATED[name]):
            rows = ablations.measured(args, name, scale)
            show(args, f"ablations-{name}-{scale:g}", ablations.table(name, scale, rows), rows=rows)


def rank_options(args):
    """Every combination of the guider's options, ranked by what it loses on any workload."""
    if found := list(ranked(args)):
        show(args, "options", option_table(found), rows=[row for _, _, rows in found for row in rows])


DO = {
    "methods": compare_methods,
    "learnt": learn,
    "reach": reach_out,
    "unlike": enlarge_unlike,
    "guard": stand_guard,
    "quality": judge_quality,
    "features": look_inside,
    "clock": watch_the_clock,
    "accelerator": use_accelerator,
    "ablations": ablate,
    "page": page,
    "options": rank_options,
}
