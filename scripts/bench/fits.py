"""Methods that look at runs of the model beforehand: fitted once for a kind and a scale, never on held-out pictures, and kept.

What a fit saw and what it cost is kept beside it. A fit that is on disk is not made again.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from safetensors.torch import load_file, save_file

from taylorseer_guider import Calibration, calibrate
from taylorseer_guider.commands.pictures import write_text
from taylorseer_guider.files import replacing

from .devices import moved
from .methods import FITTED, SEEN, Method, at_once, foretell, reference, solved
from .peers import bns, fitted, forecasts, gs, trained
from .peers.fitted import evenly
from .peers.training import TRIED
from .workloads import NODES, sampler_of

GRADIENTS = 16  # of our calibration, a budget each; solvers of others get as many gradients
LONG = 10 * GRADIENTS  # gradients of one more row, where they are cheap, at these calls
LONG_BUDGETS = (8,)
TRAINABLE = {  # label -> module, class, the optimizer that brought it farthest where several were tried, more options
    "GS": (gs, gs.GS, TRIED[1], {"spacing": "edm"}),
    "GS, loss as published": (gs, gs.GS, gs.OWN, {"loss": "own"}),
    "BNS": (bns, bns.BNS, TRIED[0], {}),
}


@dataclass
class Fits:
    """What is known of a model at one scale before the held-out batch is seen."""

    folder: Path
    kind: object  # a Kind
    batch: object  # its training Workload at this scale
    calibration: Path | None = None  # for this scale
    plans: dict = field(default_factory=dict)  # budget -> nodes to call, of this calibration or of the one with the nearest scale
    costs: dict = field(default_factory=dict)  # name of a fit -> calls, seconds, pictures

    def methods(self, budgets, wants):
        """The fitted methods of others whose label ``wants`` takes. One that is not on disk is fitted as it is asked for."""
        budgets = [budget for budget in budgets if budget < NODES]
        return [method for method in (*self._recorded(budgets, wants), *self._trained(budgets, wants)) if wants(method.label)]

    def _recorded(self, budgets, wants):
        recording = fitted.record(self.batch.part(slice(SEEN)))
        for budget in budgets:
            even = evenly(budget, NODES)
            yield Method("L2P", FITTED, budget, at_once(foretell, even, linear(even, recording)))
            if budget in self.plans:
                plan = self.plans[budget]
                yield Method("L2P, our plan", FITTED, budget, at_once(foretell, plan, linear(plan, recording)))
            if wants("reuse, searched (BudCache)"):
                searched = self.kept(f"budcache_{budget}", lambda budget=budget: list(fitted.budcache(recording, budget)))
                yield Method("reuse, searched (BudCache)", FITTED, budget, at_once(foretell, searched, forecasts.Reuse))

    def _trained(self, budgets, wants):
        """Solvers trained on the same pictures as our calibration, on where runs end, with as many gradients."""
        for label, budget in [(label, budget) for label in TRAINABLE for budget in budgets if budget in self.kind.trained]:
            if wants(label):
                yield self._solver(label, budget, GRADIENTS)
                if self.kind.cheap and budget in LONG_BUDGETS:
                    yield self._solver(label, budget, LONG)

    def _solver(self, label, budget, gradients):
        module, of, recipe, options = TRAINABLE[label]
        path = self.folder / f"{label.lower().replace(', ', '_').replace(' ', '_')}_{budget}_{gradients}.safetensors"
        if not path.exists():
            recipes = TRIED if self.kind.cheap and recipe in TRIED else (recipe,)
            found = module.fit(self.batch, budget, gradients, target=self.exact(), recipes=recipes, **options)
            with replacing(path) as partial:
                found.save(partial)
        found = of.load(path)
        named = label if gradients == GRADIENTS else f"{label}, {gradients} gradients"
        self.costs[f"{named}, {budget} calls"] = found.about
        return Method(named, FITTED, budget, at_once(solved, trained.solve(found), budget, None))

    def exact(self):
        """Exact solutions of the training batch, x (N, ...): what is aimed at."""
        path = self.folder / "exact.safetensors"
        if not path.exists():
            with replacing(path) as partial:
                save_file({"exact": reference(self.batch).contiguous()}, partial)
        return load_file(path)["exact"].to(self.batch.noise.device)

    def kept(self, name, make):
        """What ``make()`` returns (plain values), made once and kept as JSON with what it cost."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            found, cost = priced(self.batch, make)
            write_text(path, json.dumps({"found": found, "cost": cost}))
        content = json.loads(path.read_text())
        self.costs[name] = content["cost"]
        return content["found"]


def priced(batch, make):
    """(``make()``, {calls, seconds, pictures}): what it cost on ``batch``."""
    calls, started = batch.calls, perf_counter()
    found = make()
    return found, {"calls": batch.calls - calls, "seconds": perf_counter() - started, "pictures": len(batch.noise)}


def fit(kind, scale, budgets, folder, count=None, device="cpu"):
    """The ``Fits`` of ``kind`` at ``scale``: a shipped calibration for it, or one that is made on ``count`` training pictures.

    What is fitted then or later is fitted on ``device``.
    """
    count = count or kind.fitted_on
    network = kind.made(scale).get("network", "")[:8]
    parts = [kind.fits_of or kind.name, f"{scale:g}", f"of-{count}", network]  # on fewer pictures it is another fit
    folder = folder / "-".join(filter(None, parts))
    folder.mkdir(parents=True, exist_ok=True)
    fits = Fits(folder, kind, moved(kind.training(scale, count), device))
    found = {path: Calibration.load(path) for path in kind.calibrations}
    if not found:
        path = folder / "calibration.yaml"
        fits.kept("calibration", lambda: calibrated(fits.batch, [b for b in budgets if b < NODES], path))
        found = {path: Calibration.load(path)}
    near = min(found.values(), key=lambda other: min(abs(known - scale) for known in other.fitted.scales))
    fits.plans = {budget: solved.nodes for budget, solved in near.budgets.items()}
    fits.calibration = next((path for path, known in found.items() if known.fitted.holds(scale)), None)
    return fits


def calibrated(batch, budgets, path, scales=None, **host):
    """Calibrate on ``batch`` and write the file; returns its name. ``host`` is as ``sampler_of`` takes it: solver, steps."""
    sampler, runs = sampler_of(batch, {}, **host), [{"x": batch.noise, "cond": batch.cond, "uc": batch.uc}]
    calibrate(sampler, batch.network, runs, calls=budgets, scales=scales, refine=GRADIENTS, progress=False).save(path)
    return path.name


def linear(plan, recording):
    rows = fitted.l2p(recording, plan)
    return lambda: forecasts.Linear(rows, fitted.HISTORY)
