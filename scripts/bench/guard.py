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
from taylorseer_guider.plan import above

from .compare import about, references
from .devices import moved
from .fits import fit
from .measure import row
from .methods import OURS_FITTED, Method
from .spread import decibels
from .store import Store
from .tables import two
from .workloads import sampler_of

BUDGET, SEED = 8, 2000  # calls; of the draws that are judged, which no fit sees
FITTED_ON = (8, 24)  # pictures
PICTURES = {"mixture": 128}  # that are judged: more than elsewhere where calls are cheap, since the bad ones are seldom
TIMES, MORE = (1.0, 1.5, 2.0), 4  # surprise; calls
CALIBRATED = "as calibrated"
RULES = {  # (label, surprise that is too much) -> the same, more calls then, whether theory answers from the start
    (CALIBRATED, None): (inf, 0, False),
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
        """How far off each picture of ``grams`` is, in units of ``most``: (S,)."""
        return residual(grams, self.weights).sqrt() / self.most


def expectations(calibration, batch):
    """An Expected for each call but the first, of the pictures of ``batch`` as the calibration leads them."""
    return [Expected.of(grams, batch.scale, calibration.branches) for grams in walked(batch, calibration)[1]]


@torch.no_grad()
def walked(workload, calibration, expected=(), times=inf, more=0, theirs=False):
    """(x at the end, [Gram matrices (S, m, m)] of each call but the first) of one run of ``workload``.

    Theory answers from the start if it is ``theirs``, or from the visit after a call that surprises more than ``times``: before,
    x is not where theory takes it to be. A batch goes over as one; where that may be, it should be one picture.
    """
    budget = calibration.budget(BUDGET).mixed(newton_weights(calibration.fitted.scales, workload.scale))
    run = {"x": workload.noise, "cond": workload.cond, "uc": workload.uc}
    probe = Probe(sampler_of(workload, {}), workload.network, run, 0)
    kept = SimpleNamespace(history=calibration.history, low=bool(budget.rows[0].low))
    walk, theory = Walk.of(probe), Theory.unaided(probe.sampler, probe.sigmas, workload.scale, calibration.history)
    visits, nodes, grams = stops("heun", probe.sigmas), budget.nodes, []
    for n, (stop, fitted) in enumerate(zip(visits, budget.rows, strict=True)):
        by_theory = theirs
        if calls_at(visits, nodes)[n]:
            output = probe.denoise(walk.at, stop.sigma, calibration.branches)
            grams += [gram([walk.at, *sum(walk.outputs, []), probe.guided(output)])] if walk.outputs else []
            walk.hold(output, kept)
            theory.hold(stop, walk.at, probe.guided(output))
            if expected and grams and not theirs and expected[len(grams) - 1].surprise(grams[-1]).max() > times:
                theirs, nodes = True, with_more(nodes, stop.step + stop.corrector, probe.sigmas, more)
        walk.walker.advance(stop, theory.answer(stop, walk.at) if by_theory else walk.answer(fitted))
    return walk.walker.x, grams


def with_more(nodes, at, sigmas, more):
    """``nodes`` and ``more`` of those after node ``at``, each where the sum of squared gaps of ``above`` falls most."""
    last, lowest = len(sigmas) - 1, sigmas[-2] / 2
    place = [above(sigma, sigmas[0], lowest) for sigma in (*sigmas[:-1], lowest)]
    cost = lambda nodes: sum((place[a] - place[b]) ** 2 for a, b in pairwise([*sorted(nodes), last]))  # noqa: E731
    for _ in range(more):
        free = [node for node in range(at + 1, last) if node not in nodes]
        nodes = (*nodes, min(free, key=lambda node: cost([*nodes, node]))) if free else nodes
    return nodes


def measured(args, kind, scale):
    """Rows of ``RULES`` for calibrations of few pictures and of more, on pictures that were not fitted."""
    count, fitted_on = args.pictures or PICTURES.get(kind.name, kind.pictures), (args.training,) if args.training else FITTED_ON
    made = kind.made(scale, pictures=count, seed=SEED)
    store = Store(args.out_dir / f"guard-{kind.name}-{scale:g}.jsonl", made, about(), args.device)
    workload = moved(kind.training(scale, count, seed=SEED), args.device)
    near = references(workload, args.out_dir / f"guard-{kind.name}-{scale:g}.safetensors")
    for seen_by in fitted_on:
        fits = fit(kind, scale, [BUDGET], args.out_dir / "fits" / "guard", seen_by, args.device)
        calibration, fitted = Calibration.load(fits.calibration), f"fitted on {seen_by}"
        expected = expectations(calibration, fits.batch)
        for (label, setting), rule in tqdm(RULES.items(), desc=f"guard, {kind.name}, {fitted}", unit="row", leave=False):
            if store.find(table=fitted, label=label, budget=BUDGET, setting=setting) is None:
                result, switched, surprise = ruled(workload.part(slice(None)), calibration, expected, *rule)
                found = row(workload, Method(label, OURS_FITTED, BUDGET, None, setting), result, *near)
                worst = min(range(count), key=decibels(found["exact_dB"]).__getitem__)
                more = {"switched": switched, "surprise_of_worst": [round(float(call[worst]), 2) for call in surprise]}
                store.add({**found, "table": fitted, **more})
    return store.rows


def ruled(workload, calibration, expected, times, more, theirs):
    """((x, calls and branches a picture, seconds), how many theory answered, surprise (calls - 1, S) at first).

    Pictures that surprise by more than ``times`` are run again, each alone.
    """
    started, count = perf_counter(), len(workload.noise)
    x, grams = walked(workload, calibration, theirs=theirs)
    surprise = torch.stack([each.surprise(gram) for each, gram in zip(expected, grams, strict=True)])
    found = [] if theirs else (surprise.amax(0) > times).nonzero().flatten().tolist()
    parts = [workload.part(slice(n, n + 1)) for n in found]
    for n, part in zip(found, parts, strict=True):
        x[n : n + 1] = walked(part, calibration, expected, times, more)[0]
    calls, branches = (
        sum([getattr(workload, name) * (count - len(parts)), *(getattr(part, name) for part in parts)]) / count
        for name in ("calls", "branches")
    )
    return (x, calls, branches, perf_counter() - started), count if theirs else len(found), surprise


def table(kind, scale, rows):
    """Mean/worst dB over pictures, how many went over to theory, how many of them are better for it, and calls a picture."""
    tables, pictures = list(dict.fromkeys(found["table"] for found in rows)), len(rows[0]["exact_dB"])
    lines = [f"{kind}, scale {scale:g}, {BUDGET} calls, {pictures} training pictures that were not fitted: dB, mean/worst"]
    lines.append(f"{'':<38}" + "".join(f"{name:>13}{'switched':>10}{'better':>7}{'calls':>6}" for name in tables))
    plain = {found["table"]: found for found in rows if found["label"] == CALIBRATED}
    for label, times in RULES:
        cells = ""
        for found in (found for found in rows if (found["label"], found["setting"]) == (label, times)):
            pairs = zip(*(decibels(one["exact_dB"]) for one in (found, plain[found["table"]])), strict=True)
            better = sum(now > before for now, before in pairs)
            cells += f"{two(found, 13)}{found['switched']:>10}{better:>7}{found['calls']:>6.1f}"
        lines.append(f"{label if times is None else f'{label}, {times:g}x':<38}{cells}")
    for name, found in plain.items():
        called = " ".join(f"{value:.1f}x" for value in found["surprise_of_worst"])
        lines.append(f"surprise of the worst {CALIBRATED}, {name}, at calls 2 to {BUDGET}: {called}")
    return "\n".join(lines)
