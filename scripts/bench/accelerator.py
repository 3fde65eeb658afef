"""The same runs on an accelerator: CUDA events, peak memory, and the denoiser as it is, compiled, and as a CUDA graph.

``scripts/bench/accelerator.md`` says what to run and what to expect. Every row carries the name of the device that it was
measured on. What was left out: a graph of the whole run, since a guider decides visit by visit.
"""

from dataclasses import replace

import torch

from taylorseer_guider.commands.figures import psnr

from .clock import side_by_side
from .devices import clock_of, moved, name_of
from .measure import timed
from .methods import FULL_RUN


class Graph:
    """``denoiser`` as a CUDA graph for each shape of x. Its output is copied: solvers hold what they were given."""

    def __init__(self, denoiser):
        self.denoiser, self.graphs = denoiser, {}

    def __call__(self, x, sigma, cond):
        given = [x, sigma, *(cond[key] for key in sorted(cond))]
        shapes = tuple(tensor.shape for tensor in given)
        if shapes not in self.graphs:
            self.graphs[shapes] = self._captured([tensor.clone() for tensor in given], sorted(cond))
        graph, held, output = self.graphs[shapes]
        for place, tensor in zip(held, given, strict=True):
            place.copy_(tensor)
        graph.replay()
        return output.clone()

    def _captured(self, held, keys):
        x, sigma, cond = held[0], held[1], dict(zip(keys, held[2:], strict=True))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries choose and set up their kernels in the first calls
                self.denoiser(x, sigma, cond)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.denoiser(x, sigma, cond)
        return graph, held, output


def denoisers(denoiser, device, backend="inductor"):
    """The denoiser by kind: as it is, compiled where there is a ``backend``, and as a CUDA graph where ``device`` is CUDA."""
    found = {"as it is": denoiser}
    if backend is not None:
        found["compiled"] = torch.compile(denoiser, backend=backend)
    if device.type == "cuda":
        found["CUDA graph"] = Graph(denoiser)
    return found


@torch.no_grad()
def measured(workload, todo, device="cpu", repeats=9, backend="inductor"):
    """Yields a row for the full run and for each method of ``todo``, with every kind of denoiser.

    ``speed_up`` and ``of_ideal`` are over the full run with the same denoiser, ``faster`` over the one as it is. ``full_dB``
    tells how near the pictures are to those of the full run as it is. Each method runs once before it is timed.
    """
    clock = clock_of(device)
    workload = moved(workload, clock.device)
    full = workload.pictures(timed(workload, FULL_RUN.begin, clock)[0])
    plain = None
    for name, denoiser in denoisers(workload.denoiser, clock.device, backend).items():
        chosen = replace(workload, denoiser=denoiser)
        near = {method: psnr(chosen.pictures(timed(chosen, method.begin, clock)[0]), full) for method in (FULL_RUN, *todo)}
        rows = side_by_side(chosen, todo, repeats, clock)
        plain = plain or rows[0]["seconds"]
        for row, (method, dB) in zip(rows, near.items(), strict=True):
            said = {"device": name_of(clock.device), "workload": workload.name, "denoiser": name, "budget": method.budget}
            yield {**said, **row, "faster": plain / row["seconds"], "full_dB": dB}


def table(rows):
    """The rows as lines of text, under the name of the device."""
    lines = [f"{rows[0]['device']}: {rows[0]['workload']}, {rows[0]['size']} pixels, scale {rows[0]['scale']:g}"]
    lines.append(
        f"{'denoiser':<11} {'method':<34} {'calls':>5} {'ms':>9} {'speed-up':>8} {'of ideal':>8} {'MiB':>8} {'full dB':>8}"
    )
    for row in rows:
        peak = "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.1f}"
        dB = "-" if row["full_dB"] is None else f"{row['full_dB']:.1f}"
        cost = f"{row['calls']:>5} {1e3 * row['seconds']:>9.2f} {row['speed_up']:>8.2f} {row['of_ideal']:>8.3f}"
        lines.append(f"{row['denoiser']:<11} {row['label']:<34} {cost} {peak:>8} {dB:>8}")
    return "\n".join(lines)
