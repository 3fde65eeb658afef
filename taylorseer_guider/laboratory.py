"""The door of the laboratory, ``calibration/``, which is loaded when somebody enters it."""

import os
from collections.abc import Callable, Iterable, Sequence

from .calibration_file import Calibration


def calibrate(
    sampler: object, denoiser: Callable, runs: Iterable[dict], calls: int | Sequence[int] = 8, *,
    scales: Sequence[float] | None = None, degree: int = 1,
    history: int = 5, low: bool = False, substeps: int = 1, refine: int = 12,
    start: Calibration | str | os.PathLike | None = None, peak: float = 2.0, seed: int = 0,
    folder: str | os.PathLike | None = None, progress: bool = True,
) -> Calibration:  # fmt: skip
    """Fit a solver for each of ``calls`` to the runs of ``sampler``, whose guider is a TaylorSeerGuider. Returns a Calibration.

    ``denoiser`` is what the sampler takes; ``runs`` are dictionaries of keyword arguments for ``sampler(denoiser, **run)``,
    each started once with the random numbers of its own seed (``seed`` plus its index); their tensors are not changed.

    calls      denoiser calls a run may make; a list shares the reference runs between several budgets
    scales     guidance scales at which each run is walked: the weights are then polynomials in the scale, fitted for all of
               them together, and serve every scale from the lowest to the highest; None: the guider's own alone
    degree     of that polynomial, 1 or 2
    history    newest outputs that an answer may weigh; later runs hold one more
    low        weigh 4x4 means of everything too, so that low and high frequencies get weights of their own
    substeps   steps of the reference, of order 4, between each two of its sigmas
    refine     times that each budget's run is followed back by its gradient, to move its sigmas and weights together; 0: for a
               denoiser that lets no gradient through
    start      a Calibration, or its file, that is begun with where it is better than `calls` alone: for new weights of a
               network, other scales or further budgets
    peak       of the PSNR that is reported: the range of what is sampled, 2 for images in [-1, 1]
    folder     keep recordings there, not in memory; a calibration that was interrupted goes on from what it holds
    progress   show a bar

    A budget begins as `calls` alone. Of 12 samples or more every fourth is left out of the gradient. Every move is judged on all
    samples, for three quarters by their mean and for one by the worst; the best is kept, and the start counts as one. ``about``
    says what those that were left out came to beside `calls` alone, and the log warns where that is not better in both.

    Costs, for each of ``runs``, about ``4 * substeps`` denoiser calls for each sigma that a budget begins with, and for each
    node where those leave wider gaps; then, for each budget, ``refine * (calls - 1)``, forward and back, for the gradients,
    and up to ``4 * (calls - 1)`` to compare what it may begin with and to check what it ends with; with ``scales``, all of it
    for each of them. A denoiser that looks its sigma up is called twice for a gradient. Raises ValueError for a sampler,
    guider or schedule that cannot be calibrated, with the reason, for ``scales`` where outputs are not of two branches, and
    where ``refine`` is asked of a denoiser that lets no gradient through.
    """
    from .calibration.fit import calibrated

    return calibrated(
        sampler, denoiser, runs, calls, scales=scales, degree=degree, history=history, low=low, substeps=substeps, refine=refine,
        start=start, peak=peak, seed=seed, folder=folder, progress=progress,
    )  # fmt: skip
