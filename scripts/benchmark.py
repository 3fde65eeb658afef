"""Fidelity at equal denoiser calls: this guider against the same samplers with fewer steps, on held-out photographs.

Every method starts from the same noise. PSNR is on the image scale, to the exact solution (a fine Heun run) and to the full
run (the host's own guider, 20-step Heun, 39 calls). `--options` ranks the guider's options instead: how the defaults were chosen.
"""

import argparse
import itertools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio
from tqdm import tqdm

from taylorseer_guider import Calibration, tiny
from taylorseer_guider.settings import Settings
from taylorseer_guider.standalone.config import instantiate_from_config
from taylorseer_guider.tiny.photographs import photograph

NODES = 20
BUDGETS = (5, 6, 7, 8, 10, 13, 20)
SAMPLERS = {"Euler": "EulerEDMSampler", "Heun": "HeunEDMSampler", "DPM++2M": "DPMPP2MSampler"}
EPS = {"quantity": "eps", "max_order": 2}  # what ranks first on deterministic samplers
CALIBRATION = Path(__file__).resolve().parents[1] / "configs" / "tiny_calibration.yaml"
CROPS = (("chelsea", 100, 150), ("coffee", 60, 330), ("chelsea", 20, 230), ("coffee", 200, 200))  # name, top, left


@dataclass
class Workload:
    """Held-out crops to enlarge at one guidance scale. ``calls`` counts the denoiser's runs since it was last set to 0."""

    scale: float
    size: int
    seed: int
    calls: int = 0

    def __post_init__(self):
        crops = np.stack([photograph(n)[top : top + self.size, left : left + self.size] for n, top, left in CROPS])
        self.enlarged = tiny.enlarge(tiny.shrink(tiny.from_uint8(crops)))
        self.noise = torch.randn(self.enlarged.shape, generator=torch.Generator().manual_seed(self.seed))
        self.network = tiny.load_denoiser()

    def denoiser(self, x, sigma, cond):
        self.calls += 1
        return self.network(x, sigma, cond)

    @torch.no_grad()
    def images(self, method):
        """What ``method`` makes of the crops: (B, 3, size, size) in [-1, 1], and the calls it took."""
        self.calls = 0
        cond, uc = {"concat": self.enlarged}, {"concat": torch.zeros_like(self.enlarged)}
        residual = method.sampler(self.scale)(self.denoiser, self.noise.clone(), cond, uc)
        return tiny.with_residual(residual, self.enlarged), self.calls


@dataclass(frozen=True)
class Method:
    """A sampler of the standalone host and its guider: the host's own where ``options`` is None."""

    label: str
    solver: str
    steps: int = NODES
    options: dict | None = field(default=None, hash=False)

    def sampler(self, scale):
        own = "IdentityGuider" if scale == 1 else "VanillaCFG"
        if self.options is not None:
            guider = {"target": "taylorseer_guider.TaylorSeerGuider", "params": {"scale": scale, **self.options}}
        else:
            params = {} if scale == 1 else {"scale": scale}
            guider = {"target": f"taylorseer_guider.standalone.guiders.{own}", "params": params}
        discretization = "taylorseer_guider.standalone.discretization.EDMDiscretization"
        params = {
            "num_steps": self.steps,
            "discretization_config": {"target": discretization, "params": {"sigma_min": 0.002, "sigma_max": 40.0}},
            "guider_config": guider,
        }
        target = f"taylorseer_guider.standalone.sampling.{SAMPLERS[self.solver]}"
        return instantiate_from_config({"target": target, "params": params})


def evenly(budget):
    """``budget`` of the schedule's nodes, evenly spaced from the first."""
    return [round(i * NODES / budget) for i in range(budget)]


def methods(scale):
    """Per budget: every solver with fewer steps; the guider on 20 nodes of every solver, its defaults and ``EPS``; calibrated."""
    calibration = Calibration.load(CALIBRATION)
    for budget in BUDGETS:
        if budget in calibration.budgets and scale == calibration.fitted.scale:
            yield Method("Heun + TaylorSeer, solved", "Heun", options={"calibration": str(CALIBRATION), "calls": budget})
        for solver in SAMPLERS:
            steps = (budget + 1) // 2 if solver == "Heun" else budget
            yield Method(f"{solver}, fewer steps", solver, steps)
            yield Method(f"{solver} + TaylorSeer", solver, options={"activate": evenly(budget)})
            yield Method(f"{solver} + TaylorSeer, eps 2", solver, options={"activate": evenly(budget), **EPS})


def option_methods(budgets=(5, 7, 10, 13)):
    """Every coordinate, basis, quantity and order, on every solver."""
    choices = itertools.product(("rho", "log_sigma", "asinh", "sigma"), ("newton", "taylor"), ("denoised", "eps"), (1, 2, 3))
    for coordinate, basis, quantity, order in choices:
        if order == 1 and basis == "taylor":
            continue  # the same line as newton's
        options = {"coordinate": coordinate, "basis": basis, "quantity": quantity, "max_order": order}
        label = f"{coordinate:<9} {basis:<6} {quantity:<8} order {order}"
        for budget, solver in itertools.product(budgets, SAMPLERS):
            yield Method(label, solver, options={**options, "activate": evenly(budget)})


def measure(workload, todo):
    """Run ``todo`` on ``workload``: a list of plain rows."""
    exact, _ = workload.images(Method("exact", "Heun", steps=80))
    full, _ = workload.images(Method("full", "Heun"))
    rows = []
    for method in tqdm(todo, desc=f"scale {workload.scale:g}, {workload.size} px, seed {workload.seed}", leave=False):
        images, calls = workload.images(method)
        rows.append(
            {
                **asdict(method),
                "scale": workload.scale, "size": workload.size, "seed": workload.seed, "calls": calls,
                "exact_dB": psnr(images, exact), "full_dB": psnr(images, full),
            }  # fmt: skip
        )
    rows.append({"label": "full run", "solver": "Heun", "scale": workload.scale, "calls": 39, "exact_dB": psnr(full, exact)})
    return rows


def psnr(images, reference):
    """dB, the mean over the images."""
    pairs = zip(images, reference, strict=True)
    return float(np.mean([peak_signal_noise_ratio(a, b, data_range=2.0).item() for a, b in pairs]))


def mean_dB(rows, key="exact_dB"):
    return float(np.mean([row[key] for row in rows])) if rows else float("nan")


def budget_table(rows, scale):
    """dB to the exact solution: a line a method, a column a budget."""
    rows = [row for row in rows if row["scale"] == scale]
    full = mean_dB([row for row in rows if row["label"] == "full run"])
    lines = [f"scale {scale:g}: dB to the exact solution by denoiser calls (full run, 39 calls: {full:.1f})"]
    lines.append(f"{'':<28}" + "".join(f"{budget:>7}" for budget in BUDGETS))
    for label in dict.fromkeys(row["label"] for row in rows if row["label"] != "full run"):
        cells = []
        for budget in BUDGETS:
            near = [row for row in rows if row["label"] == label and row["calls"] in (budget, budget - 1 + budget % 2)]
            cells.append(f"{mean_dB(near):>7.1f}" if near else f"{'-':>7}")
        lines.append(f"{label:<28}" + "".join(cells))
    return "\n".join(lines)


def option_table(rows, most=12):
    """The best options by mean dB over budgets and scales, one column a solver; the last row is the default."""
    rows = [row for row in rows if row["label"] != "full run"]
    means = {}
    for label in dict.fromkeys(row["label"] for row in rows):
        per_solver = [mean_dB([r for r in rows if r["label"] == label and r["solver"] == solver]) for solver in SAMPLERS]
        means[label] = [*per_solver, float(np.mean(per_solver))]
    default = Settings()
    chosen = f"{default.coordinate:<9} {default.basis:<6} {default.quantity:<8} order {default.max_order}"
    ranked = sorted(means, key=lambda label: -means[label][-1])
    lines = [f"{'':<4} {'options':<34}" + "".join(f"{name:>9}" for name in (*SAMPLERS, "mean"))]
    for rank, label in enumerate(ranked, start=1):
        if rank <= most or label == chosen:
            mark = "  <- default" if label == chosen else ""
            lines.append(f"{rank:>4} {label:<34}" + "".join(f"{value:>9.1f}" for value in means[label]) + mark)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 2.5], help="guidance scales")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="noise seeds")
    parser.add_argument("--size", type=int, default=96, help="pixels of a held-out crop, a multiple of 4")
    parser.add_argument("--options", action="store_true", help="rank the guider's options instead of comparing methods")
    parser.add_argument("--out", type=Path, default=Path("out/benchmark.json"), help="every figure, as JSON")
    args = parser.parse_args()
    rows = []
    for scale, seed in itertools.product(args.scales, args.seeds):
        rows += measure(Workload(scale, args.size, seed), list(option_methods() if args.options else methods(scale)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1))
    print(option_table(rows) if args.options else "\n\n".join(budget_table(rows, scale) for scale in args.scales))
    print(f"\nfigures: {args.out}")


if __name__ == "__main__":
    main()
