"""The comparison of methods: every workload at every scale, each row written as soon as it is measured."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from taylorseer_guider import __version__
from taylorseer_guider.files import replacing

from . import BUDGETS
from .devices import moved
from .fits import fit
from .kinds import KINDS
from .measure import row, sampled, seen
from .methods import FULL_RUN, methods, reference
from .store import Store
from .tables import duellists

PACKAGES = ("torch", "diffusers", "k-diffusion", "hicache-pp", "cache-dit", "galaxygrad", "flip-evaluator", "ssimulacra2")
SEEN = (5, 8)  # calls of those that are also judged by what follows the eye


def about():
    """What a reader needs to judge the figures: versions, processor threads."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "taylorseer_guider": __version__,
        "packages": versions,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def compare(args):
    """Measure what is not on disk yet of every workload and scale that ``args`` asks for; yields (kind, scale, rows)."""
    todo = [(KINDS[name], scale) for name in args.workloads for scale in scales(args, KINDS[name])]
    for kind, scale in tqdm(todo, desc="workloads", unit="workload", position=0):
        yield kind, scale, compared(args, kind, scale)


def scales(args, kind):
    return asked(args, kind.scales)


def asked(args, known):
    """Of the scales ``known`` those that ``args`` asks for."""
    return [scale for scale in known if args.scales is None or scale in args.scales]


def compared(args, kind, scale):
    """The rows of one workload at one scale."""
    count, seen_by = args.pictures or kind.pictures, args.training or kind.fitted_on
    budgets = [budget for budget in args.budgets if kind.budgets is None or budget in kind.budgets]
    workload = moved(kind.held_out(scale, count), args.device)
    made = kind.made(scale, pictures=count, training=seen_by)
    store = Store(args.out_dir / f"{kind.name}-{scale:g}.jsonl", made, about(), args.device)
    exact, full = references(workload, args.out_dir / f"{kind.name}-{scale:g}.safetensors")
    fits = fit(kind, scale, budgets if args.quick else kind.budgets or BUDGETS, args.out_dir / "fits", seen_by, args.device)
    todo, missing = methods(budgets, fits, kind.wants)
    for package in missing:
        tqdm.write(f"skipped: {missing[package]} of {package}; `bash scripts/benchmark.sh` installs it")
    with tqdm([FULL_RUN, *todo], desc=f"{kind.name}, scale {scale:g}", unit="row", position=1, leave=False) as bar:
        for method in bar:
            if store.find(label=method.label, budget=method.budget, setting=method.setting) is None:
                bar.set_postfix_str(f"{method.label}, {method.budget or method.setting}")
                store.add(row(workload, method, sampled(workload, method), exact, full))
    if kind.perceptual:
        follow_the_eye(workload, todo, store, exact, budgets)
    order = {(method.label, method.budget, method.setting): n for n, method in enumerate((FULL_RUN, *todo))}
    key = lambda found: order.get((found["label"], found["budget"], found["setting"]), -1)  # noqa: E731
    return sorted((found for found in store.rows if key(found) >= 0), key=key)


def follow_the_eye(workload, todo, store, exact, budgets):
    """Rows of the full run, ours and the nearest of others at some budgets: these figures take long, so not of all."""
    for budget in [budget for budget in SEEN if budget in budgets]:
        labels = {found["label"] for found in duellists(store.rows, budget)}
        for method in [FULL_RUN, *(method for method in todo if method.budget == budget and method.label in labels)]:
            if store.find(table="seen", label=method.label, budget=method.budget) is None:
                store.add(seen(workload, method, exact))


def references(workload, path):
    """(pictures of the exact solution, of the full run) on the CPU.

    They are those of ``path`` where that has as many, of the same network.
    """
    found = _kept(path, workload.weights)
    if len(found.get("exact", ())) != len(workload.noise):
        runs = {"exact": reference(workload), "full": sampled(workload, FULL_RUN)[0]}
        found = {name: workload.pictures(x).cpu() for name, x in runs.items()}
        with replacing(path) as partial:
            known = {"weights": workload.weights} if workload.weights else None
            save_file({name: pictures.contiguous() for name, pictures in found.items()}, partial, known)
    return found["exact"], found["full"]


def _kept(path, weights):
    """What the file ``path`` has of a network with these ``weights`` (a digest, or None)."""
    if not path.exists():
        return {}
    with safe_open(path, "pt") as file:
        same = (file.metadata() or {}).get("weights") == weights
    return load_file(path) if same else {}
