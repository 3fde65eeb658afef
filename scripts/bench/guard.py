"""A guard at run time, tried and not built: a picture that surprises a calibration goes on by theory, or with more calls.

At every call but the first the output is compared with what was foretold of it: the sum of x and held outputs that does so best
on the pictures that were fitted. The *surprise* is how far off a picture is, in units of the most that any of those was. Above so
many times that, the picture's next forecasts are those of `calls` alone, at the calls that were planned or with some more.

All of it is on training pictures: those that were fitted, and others, which are judged. Held-out ones are not looked at.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from time import perf_counter
from types import SimpleNamespace

import torch
from tqdm import tqdm

from taylorseer_guider import Calibration
from taylorseer_guider.calibration.host import Probe
from taylorseer_guider.calibration.ode import calls_at, stops
from taylorseer_guider.calibration.scales import branched
from taylorseer_guider.calibration.squares import gram, residual, solve
from taylorseer_guider.calibration.theory import Theory
from taylorseer_guider.calibration.walk import Walk
from taylorseer_guider.forecast import newton_weights
from taylorseer_guider.schedule import above

from .compare import about, references
from .devices import moved
from .fits import fit
from .measure import row
from .methods import OURS_FITTED, Method
from .store import Store
from .tables import two
from .workloads import sampler_of

BUDGET, SEED = 8, 2000  # calls; of the draws that are judged, which no fit sees
FITTED_ON = (8, 24)  # pictures
TIMES, MORE = (1.0, 1.5, 2.0), 4  # surprise; calls
RULES = {  # (label, surprise that is too much) -> the same, more calls then, whether theory answers from the start
    ("as calibrated", None): (inf, 0, False),
    ("theory's weights all the way", None): (inf, 0, True),
    **{("theory's weights once surprised", times): (times, 0, False) for times in TIMES},
    **{(f"and {MORE} more calls", times): (times, MORE, False) for times in TIMES},
}


@dataclass(frozen=True)
class Expected:
    """What is foretold of a call's output: by ``weights`` of x and held outputs, which miss a fitted picture's by ``most``."""

    weights: torch.Tensor
    most: float

    @classmethod
    def of(cls, grams, scale, branches):
        """From Gram matrices (S, m, m) of x, the held outputs and the new one. Weights stay near a repeat of the newest."""
        held = (grams.shape[-1] - 2) // branches
        weights, _ = solve(grams, [0.0, *branched([1.0, *[0.0] * (held - 1)], scale, branches)])
        weights = torch.tensor(weights, dtype=grams.dtype)
        return cls(weights, float(residual(grams, weights).max().sqrt()))

    def surprise(self, grams):
        """How far off the farthest picture of ``grams`` is, in units of ``most``."""
        return float(residual(grams, self.weights).max().sqrt()) / self.most


def expectations(calibration, batch):
    """An Expected for each call but the first, of the pictures of ``batch`` as the calibration leads them."""
    return [Expected.of(grams, batch.scale, calibration.branches) for grams in walked(batch, calibration)[1]]


@torch.no_grad()
def walked(workload, calibration, expected=(), times=inf, more=0, theirs=False):
    """(x at the end, [Gram matrices] of each call but the first, whether theory answered) of one run of ``workload``.

    Theory answers from the start if it is ``theirs``, or from the visit after a call that surprises more than ``times``: before,
    x is not where theory takes it to be. A batch goes over as one, so it should be one picture.
    """
    budget = calibration.budget(BUDGET).mixed(newton_weights(calibration.fitted.scales, workload.scale))
    run = {"x": workload.noise, "cond": workload.cond, "uc": workload.uc}
    probe = Probe(sampler_of(workload, {}), workload.network, run, 0)
    kept = SimpleNamespace(history=calibration.history, low=bool(budget.rows[0].low))
    walk, theory = Walk.of(probe), Theory.unaided(probe.sampler, probe.sigmas, workload.scale, calibration.history)
    visits, nodes, grams, surprised = stops("heun", probe.sigmas), budget.nodes, [], False
    for n, (stop, fitted) in enumerate(zip(visits, budget.rows, strict=True)):
        by_theory = theirs or surprised
        if calls_at(visits, nodes)[n]:
            output = probe.denoise(walk.at, stop.sigma, calibration.branches)
            grams += [gram([walk.at, *sum(walk.outputs, []), probe.guided(output)])] if walk.outputs else []
            walk.hold(output, kept)
            theory.hold(stop, walk.at, probe.guided(output))
            if expected and grams and not by_theory and expected[len(grams) - 1].surprise(grams[-1]) > times:
                surprised, nodes = True, with_more(nodes, stop.step + stop.corrector, probe.sigmas, more)
        walk.walker.advance(stop, theory.answer(stop, walk.at) if by_theory else walk.answer(fitted))
    return walk.walker.x, grams, theirs or surprised


def with_more(nodes, at, sigmas, more):
    """``nodes`` and ``more`` of those after node ``at``, each where the sum of squared gaps of ``above`` falls most."""
    place, last = above([*sigmas[:-1], sigmas[-2] / 2]), len(sigmas) - 1
    cost = lambda nodes: sum((place[a] - place[b]) ** 2 for a, b in pairwise([*sorted(nodes), last]))  # noqa: E731
    for _ in range(more):
        free = [node for node in range(at + 1, last) if node not in nodes]
        nodes = (*nodes, min(free, key=lambda node: cost([*nodes, node]))) if free else nodes
    return nodes


def measured(args, kind, scale):
    """Rows of ``RULES`` for calibrations of few pictures and of more, on pictures that were not fitted, each alone."""
    count, fitted_on = args.pictures or kind.pictures, (args.training,) if args.training else FITTED_ON
    made = {"workload": kind.name, "scale": scale, "pictures": count, "seed": SEED}
    store = Store(args.out_dir / f"guard-{kind.name}-{scale:g}.jsonl", made, about(), args.device)
    workload = moved(kind.training(scale, count, seed=SEED), args.device)
    near = references(workload, args.out_dir / f"guard-{kind.name}-{scale:g}.safetensors")
    for seen_by in fitted_on:
        fits = fit(kind, scale, [BUDGET], args.out_dir / "fits" / "guard", seen_by, args.device)
        calibration, fitted = Calibration.load(fits.calibration), f"fitted on {seen_by}"
        expected = expectations(calibration, fits.batch)
        for (label, setting), rule in tqdm(RULES.items(), desc=f"guard, {kind.name}, {fitted}", unit="row", leave=False):
            if store.find(table=fitted, label=label, budget=BUDGET, setting=setting) is None:
                result, switched = one_by_one(workload, calibration, expected, *rule)
                method = Method(label, OURS_FITTED, BUDGET, None, setting)
                store.add({**row(workload, method, result, *near), "table": fitted, "switched": switched})
    return store.rows


def one_by_one(workload, *rule):
    """((x, calls and branches a picture, seconds), how many pictures theory answered) of each picture's own run."""
    parts, started = [workload.part(slice(n, n + 1)) for n in range(len(workload.noise))], perf_counter()
    xs, _, over = zip(*[walked(part, *rule) for part in parts], strict=True)
    calls, branches = (sum(getattr(part, name) for part in parts) / len(parts) for name in ("calls", "branches"))
    return (torch.cat(xs), calls, branches, perf_counter() - started), sum(over)


def table(kind, scale, rows):
    """Mean/worst dB over pictures, how many went over to theory, and calls a picture, beside how many pictures were fitted."""
    tables = list(dict.fromkeys(found["table"] for found in rows))
    pictures = len(rows[0]["exact_dB"])
    lines = [f"{kind}, scale {scale:g}, {BUDGET} calls, {pictures} training pictures that were not fitted: dB, mean/worst"]
    lines.append(f"{'':<38}" + "".join(f"{name:>13}{'switched':>10}{'calls':>6}" for name in tables))
    for label, times in RULES:
        cells = [found for found in rows if (found["label"], found["setting"]) == (label, times)]
        over = label if times is None else f"{label}, {times:g}x"
        cells = (f"{two(found, 13)}{found['switched']:>10}{found['calls']:>6.1f}" for found in cells)
        lines.append(f"{over:<38}" + "".join(cells))
    return "\n".join(lines)
