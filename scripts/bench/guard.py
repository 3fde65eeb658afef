"""A guard at run time, tried and not built: a picture that surprises a calibration goes on by theory, or with more calls.

At every call but the first the output is compared with what was foretold of it: the sum of x and held outputs that does so best
on the pictures that were fitted. The *surprise* is how far off a picture is, in units of the most that any of those was. Above so
many times that, the picture's next forecasts are those of `calls` alone, at the calls that were planned or with some more.

All of it is on training pictures: those that were fitted, and others, which are judged. Held-out ones are not looked at.
"""

from dataclasses import dataclass
from math import inf, sqrt
from time import perf_counter

import torch
from tqdm import tqdm

from taylorseer_guider import Calibration
from taylorseer_guider.calibration.budgets import Start, alone
from taylorseer_guider.calibration.host import Probe
from taylorseer_guider.calibration.ode import Reference
from taylorseer_guider.calibration.problem import Problem
from taylorseer_guider.calibration.scales import branched
from taylorseer_guider.calibration.solver import Solver
from taylorseer_guider.calibration.squares import gram, residual, solve
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
JUST, PEAK = 1e-6, 2.0  # relative distance of sigmas; of the PSNR
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
def walked(workload, calibration, surprised=None, more=0):
    """(x at the end, [Gram matrices (S, m, m)] of each call but the first) of one run of ``workload``.

    From the call ``surprised`` on theory answers, and there are so many ``more`` calls.
    """
    problem, solver = posed(workload, calibration)
    solver, grams = solver if surprised is None else gone_over(problem, solver, surprised, more), []

    def notice(walk):
        newest, *held = walk.outputs
        if held:
            grams.append(gram([walk.at, *sum(held, []), problem.probes[0].guided(newest)]))

    return solver.ended(problem, 0, notice), grams


def posed(workload, calibration):
    """(a Problem of one run of ``workload``, the Solver that ``calibration`` is for it)."""
    known, run = calibration.fitted, {"x": workload.noise, "cond": workload.cond, "uc": workload.uc}
    budget = Start(calibration, known).budget(BUDGET).mixed(newton_weights(known.scales, workload.scale))
    probe, theory = Probe(sampler_of(workload, {}), workload.network, run, 0), alone(known.sigmas, calibration.history)
    first = Reference([], probe.denoise(probe.x, probe.sigmas[0], calibration.branches))
    about = calibration.branches, calibration.history, bool(budget.rows[0].low), PEAK
    problem = Problem([probe], [first], *about, theory, (float(workload.scale),), known.sigmas)
    return problem, Solver.of(budget.sigmas[:-1], budget.rows)


def gone_over(problem, solver, surprised, more):
    """``solver`` with theory's rows from the call ``surprised`` on, and so many ``more`` calls.

    At a call theory puts right what its own path has missed. That before was another, so it answers just after the call.
    """
    sigmas = with_more(solver.sigmas.tolist(), surprised, more)
    until, later = sigmas[: surprised + 1], sigmas[surprised + 1 :]
    called = [node for node in range(len(sigmas) + 1) if node != len(until)]
    rows = problem.rows((*until, until[-1] * (1 - JUST), *later, 0.0), called)[len(until) :]
    return Solver(torch.tensor(sigmas, dtype=torch.float64), [*solver.rows[:surprised], *rows])


def with_more(sigmas, at, more):
    """``sigmas`` and ``more`` after the call ``at``, each where it halves the gap that is widest as ``above`` measures it."""
    found, last = list(sigmas), sigmas[-1] / 2
    for _ in range(more if at < len(sigmas) - 1 else 0):
        place = [above(sigma, sigmas[0], last) for sigma in found]
        wide = max(range(at, len(found) - 1), key=lambda n: place[n] - place[n + 1])
        found.insert(wide + 1, sqrt(found[wide] * found[wide + 1]))
    return tuple(found)


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
    x, grams = walked(workload, calibration, 0 if theirs else None)
    surprise = torch.stack([each.surprise(gram) for each, gram in zip(expected, grams, strict=True)])
    found = [] if theirs else (surprise.amax(0) > times).nonzero().flatten().tolist()
    parts = [workload.part(slice(n, n + 1)) for n in found]
    for n, part in zip(found, parts, strict=True):
        surprised = 1 + int((surprise[:, n] > times).nonzero()[0])
        x[n : n + 1] = walked(part, calibration, surprised, more)[0]
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
