"""How far one calibration reaches without a refit: other numbers of steps, samplers, scales between those fitted, other sizes.

Beside it a fit of its own for the same runs, where fits are cheap, `calls` alone there, and the nearest solver at as many calls.
"""

from functools import partial
from types import SimpleNamespace

from tqdm import tqdm

from .compare import about, references
from .devices import moved
from .fits import calibrated
from .kinds import KINDS, shipped_for
from .measure import row, sampled
from .methods import OURS, OURS_FITTED, SOLVERS, Method, by_solvers, host
from .peers.solvers import available
from .store import Store
from .tables import best, of_table, two
from .workloads import embedded, mixture

BUDGET, STEPS = 8, (12, 20, 35)
SAMPLERS = {"Euler": "EulerEDMSampler", "Heun": "HeunEDMSampler", "DPM++2M": "DPMPP2MSampler", "LMS": "LinearMultistepSampler"}
SCALE, RANGE, BETWEEN = 2.5, (1.0, 1.5, 2.5), (1.25, 1.75, 2.25)  # of the mixture
SIZES = {48: 4, 96: 4, 192: 2}  # pixels, pictures of the embedded model
FILE, OWN, ALONE = "the file", "a fit of its own", "`calls` alone"


def compared(args):
    """{question: its rows}. The ``table`` of a row is its workload, its ``setting`` says what run of ours it is."""
    count, seen_by = args.pictures or KINDS["mixture"].pictures, args.training or KINDS["mixture"].fitted_on
    made = {"calls": BUDGET, "pictures": count, "training": seen_by}
    store = Store(args.out_dir / "reach.jsonl", made, about(), args.device)
    folder, found = args.out_dir / "fits" / f"reach-of-{seen_by}", {}
    ranged, sizes = ", ".join(f"{scale:g}" for scale in RANGE), sorted(SIZES)[: 1 if args.quick else None]
    for title, name, cases in (
        (f"mixture, scale {SCALE:g}, fitted at 20 steps of Heun's", "mixture", on_mixture(count, seen_by, folder)),
        (f"mixture, fitted at scales {ranged}", "mixture", between(count, seen_by, folder)),
        ("embedded, scale 1, the file that ships, of 20 steps of Heun's", "embedded", on_embedded(sizes, args.pictures)),
    ):
        if name in args.workloads:
            found[title] = [each for case in cases for each in measured(args, store, *case)]
    return found


def on_mixture(count, seen_by, folder):
    """Every number of steps and sampler. A fit of its own is of Euler's steps, which serves all others but Heun's."""
    batch = mixture.training(SCALE, seen_by)
    of = lambda name, steps: fitted(folder / f"{name}-{steps}.yaml", batch, solver=SAMPLERS[name], steps=steps)  # noqa: E731
    todo = []
    for steps, name in ((steps, name) for steps in STEPS for name in SAMPLERS):
        files = {FILE: of("Heun", 20), OWN: of("Heun" if name == "Heun" else "Euler", steps)}
        todo += ours(f"{steps} steps, {name}", files, solver=SAMPLERS[name], steps=steps)
    yield f"mixture, scale {SCALE:g}", mixture.held_out(SCALE, count), todo


def between(count, seen_by, folder):
    """Scales that were not fitted."""
    ranged = fitted(folder / "range.yaml", mixture.training(RANGE[1], seen_by), scales=RANGE)
    for scale in BETWEEN:
        own = fitted(folder / f"scale-{scale:g}.yaml", mixture.training(scale, seen_by))
        todo = ours(f"scale {scale:g}", {FILE: ranged, OWN: own})
        yield f"mixture, scale {scale:g}", mixture.held_out(scale, count), todo


def on_embedded(sizes, most):
    """Every number of steps on two samplers, and every one of ``sizes``."""
    files = {FILE: shipped_for(1)}
    for size in sizes:
        todo = [*ours(f"{size} px", files)]
        for steps, name in ((steps, name) for steps in STEPS for name in ("Euler", "DPM++2M") if size == sizes[0]):
            todo += ours(f"{size} px, {steps} steps, {name}", files, solver=SAMPLERS[name], steps=steps)
        yield f"embedded, {size} px", embedded.held_out(1.0, min(SIZES[size], most or SIZES[size]), size), todo


def fitted(path, batch, **options):
    """``path``, of a calibration on ``batch``, which is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        calibrated(batch, [BUDGET], path, **options)
    return path


def ours(setting, files, **choices):
    """`calls` alone, and with each of ``files``, on a host of these ``choices``."""
    runs = {ALONE: {}, **{label: {"calibration": str(path)} for label, path in files.items()}}
    for label, options in runs.items():
        run = partial(host, options={"calls": BUDGET, **options}, **choices)
        yield Method(label, OURS_FITTED if options else OURS, BUDGET, run, setting)


def measured(args, store, name, workload, todo):
    """The rows of ``todo`` and of solvers, on the workload ``name``."""
    workload = moved(workload, args.device)
    near = references(workload, args.out_dir / f"reach-{name.replace(', ', '-').replace(' ', '-')}.safetensors")
    steps = {solver: solve for solver, solve in available()[0].items() if KINDS[workload.name].wants(solver)}
    todo = [*by_solvers([BUDGET], steps, SimpleNamespace(plans={})), *todo]
    for method in tqdm(todo, desc=f"reach, {name}", unit="row", leave=False):
        if store.find(table=name, label=method.label, budget=BUDGET, setting=method.setting) is None:
            store.add({**row(workload, method, sampled(workload, method), *near), "table": name})
    return [found for found in store.rows if found["table"] == name]


def table(title, rows):
    """Mean/worst dB: a line a run, a column whose weights it has; last, the nearest solver on that workload and its name."""
    labels = [label for label in (FILE, OWN, ALONE) if any(found["label"] == label for found in rows)]
    lines = [f"{title}; {BUDGET} calls: dB to the exact solution, mean/worst"]
    lines.append(f"{'':<26}" + "".join(f"{label:>18}" for label in (*labels, "a solver")))
    for name, setting in dict.fromkeys((found["table"], found["setting"]) for found in rows if found["setting"]):
        same = {found["label"]: found for found in rows if (found["table"], found["setting"]) == (name, setting)}
        solver = best(of_table(rows, name), BUDGET, (SOLVERS,))
        cells = "".join(two(same.get(label), 18) for label in labels)
        lines.append(f"{setting:<26}{cells}{two(solver, 18)} {solver['label']}")
    return "\n".join(lines)
