"""What many pictures say: mean, worst and pooled decibels, and how sure a difference is. Every list has one value a picture."""

import math
from statistics import fmean

import numpy as np
from scipy.stats import bootstrap

LEVEL, DRAWS = 0.95, 5000
MOST = 160.0  # dB: what a picture that is its reference exactly counts as


def decibels(values):
    """The values as floats; None, a picture without any error, as ``MOST``."""
    return [MOST if value is None else value for value in values]


def pooled(values):
    """The dB of the mean square error over all pictures: one bad picture decides it."""
    return -10 * math.log10(fmean(10 ** (-value / 10) for value in decibels(values)))


def summary(values):
    """(mean, worst, pooled) dB."""
    known = decibels(values)
    return fmean(known), min(known), pooled(known)


def interval(values):
    """(low, high) of the mean: a 95 % bootstrap interval over pictures, by percentiles."""
    known = np.asarray(decibels(values), float)
    if len(known) < 2 or np.ptp(known) == 0:
        return float(known.mean()), float(known.mean())
    found = bootstrap((known,), np.mean, confidence_level=LEVEL, n_resamples=DRAWS, method="percentile", rng=0)
    return tuple(map(float, found.confidence_interval))


def difference(ours, theirs):
    """(mean, low, high) of ``ours`` - ``theirs``, picture by picture."""
    apart = [a - b for a, b in zip(decibels(ours), decibels(theirs), strict=True)]
    return fmean(apart), *interval(apart)
