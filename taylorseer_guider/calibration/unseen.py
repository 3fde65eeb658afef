"""Samples that are left out of a fit, and what they say of it."""

import logging

CLEAR = 0.3  # dB in the mean: less is not told apart by the few samples that are left out
APART, ENOUGH = 4, 12  # every fourth sample is left out, where there are twelve

logger = logging.getLogger(__name__)


def left_out(samples, scales):
    """Of all samples, counted over all probes of ``samples`` each, every fourth of every run; () where there are too few.

    A run is walked at each of ``scales`` many scales, one after another, and is left out at all or none.
    """
    places, count = [], 0
    for first in range(0, len(samples), scales):
        begin = sum(samples[:first])
        for sample in range(samples[first]):
            count += 1
            if count % APART == 0:
                places += [begin + scale * samples[first] + sample for scale in range(scales)]
    return tuple(sorted(places)) if count >= ENOUGH else ()


def compared(problem, decibels, alone):
    """Of samples that were left out: how many, their dB (S,) and those of `calls` alone, the mean and the worst.

    None where there are none.
    """
    if not problem.left_out:
        return None
    chosen = list(problem.left_out)
    known = {"db": decibels[chosen], "alone_db": alone[chosen]}
    figures = {name: round(float(db.mean()), 2) for name, db in known.items()}
    figures |= {name.replace("db", "worst"): round(float(db.min()), 2) for name, db in known.items()}
    return {"samples": len(chosen) // len({float(probe.scale) for probe in problem.probes}), **figures}


def say(about):
    """Log what left-out samples come to beside `calls` alone: a warning where that is no better, or where there are none."""
    if not all(about["unseen"].values()):
        logger.warning(
            "%d samples are too few to leave any out of the fit: nothing says how it serves others; give %d or more",
            about["samples"], ENOUGH,
        )  # fmt: skip
        return
    for calls, unseen in about["unseen"].items():
        better = unseen["db"] >= unseen["alone_db"] + CLEAR and unseen["worst"] >= unseen["alone_worst"]
        logger.log(
            logging.INFO if better else logging.WARNING,
            "%d calls, on %d samples left out of the fit: %.1f dB, the worst %.1f; `calls: %d` alone has %.1f and %.1f%s",
            calls, unseen["samples"], unseen["db"], unseen["worst"], calls, unseen["alone_db"], unseen["alone_worst"],
            "" if better else ": give more runs, and more different ones",
        )  # fmt: skip
