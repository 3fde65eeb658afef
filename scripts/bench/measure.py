"""Running methods on a workload, and what the runs cost and are worth, as plain rows: one value a picture."""

from functools import partial
from math import isfinite

import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from taylorseer_guider.commands import perceptual
from taylorseer_guider.commands.figures import psnr

from .devices import clock_of
from .methods import CALIBRATED, DEFAULT, OURS, Method, host

LEAST = -100.0  # dB
WINDOW = 11  # pixels that SSIM looks at


@torch.no_grad()
def timed(workload, begin, clock=None):
    """(x, calls, branches, seconds) of the run that ``begin(workload)`` makes ready, which is not timed.

    ``clock`` is that of the workload's device, if somebody wants to ask it more.
    """
    run, clock = begin(workload), clock or clock_of(workload.noise.device)
    workload.calls, workload.branches, workload.seconds = 0, 0.0, 0.0
    clock.start()
    x = run()
    return x, workload.calls, workload.branches, clock.stop()


def sampled(workload, method):
    """(x, calls, branches, seconds) for all pictures: at once, or each alone where the method asks for that."""
    if not method.alone:
        return timed(workload, method.begin)
    alone = [timed(workload.part(slice(n, n + 1)), method.begin) for n in range(len(workload.noise))]
    x, calls, branches, seconds = zip(*alone, strict=True)
    return torch.cat(x), sum(calls) / len(x), sum(branches) / len(x), sum(seconds)


def row(workload, method, result, exact, full):
    """One run as plain figures. ``exact`` and ``full`` are pictures on the CPU, where all figures are computed."""
    x, calls, branches, seconds = result
    pictures = workload.pictures(x).cpu()
    return {
        "label": method.label, "family": method.family, "budget": method.budget, "setting": method.setting,
        "calls": calls, "branches": branches, "seconds": round(seconds, 3),
        "exact_dB": each(decibels, pictures, exact, digits=3), "full_dB": each(decibels, pictures, full, digits=3),
    }  # fmt: skip


def seen(workload, method, exact):
    """What follows the eye, of one run: SSIM, FLIP (0 is best), SSIMULACRA2 (100 is best)."""
    x, calls, _, _ = sampled(workload, method)
    pictures = workload.pictures(x).cpu()
    return {
        "table": "seen", "label": method.label, "family": method.family, "budget": method.budget, "setting": method.setting,
        "calls": calls, "SSIM": each(ssim, pictures, exact), "FLIP": perceptual.flip(pictures, exact),
        "SSIMULACRA2": perceptual.ssimulacra2(pictures, exact),
    }  # fmt: skip


def each(figure, *batches, digits=5):
    """``figure`` of each picture alone: a list of N."""
    values = [figure(*(batch[n : n + 1] for batch in batches)) for n in range(len(batches[0]))]
    return [None if value is None else round(value, digits) for value in values]


def decibels(pictures, references):
    """PSNR in dB, None where there is no error; what has run away, finite or not, is ``LEAST``."""
    found = psnr(pictures, references)
    return found if found is None else max(found, LEAST) if isfinite(found) else LEAST


def ssim(pictures, reference):
    if min(pictures.shape[-2:]) < WINDOW:
        return None
    return structural_similarity_index_measure(pictures, reference, data_range=2.0).item()


def bfloat16_floor(single, low, calibration, exact, full, budget=8):
    """What half precision of the network alone changes, beside what ``budget`` calls change: rows against the float32 runs.

    ``single`` and ``low`` are one workload with a float32 and with a bfloat16 network.
    """
    runs = {"full run": None, DEFAULT: {"calls": budget}}
    if calibration is not None:
        runs[CALIBRATED] = {"calibration": str(calibration), "calls": budget}
    for label, options in runs.items():
        for workload, dtype in ((single, "float32"), (low, "bfloat16")):
            method = Method(f"{label}, {dtype}", OURS, budget, partial(host, options=options))
            yield row(workload, method, timed(workload, method.begin), exact, full)
