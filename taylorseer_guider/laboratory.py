"""The door of the laboratory, ``calibration/``, which is loaded when somebody enters it."""

import os
from collections.abc import Callable, Iterable, Sequence

from .calibration_file import Calibration


def calibrate(
    sampler: object, denoiser: Callable, runs: Iterable[dict], calls: int | Sequence[int] = 8, *,
    scales: Sequence[float] | None = None, degree: int = 1,
    history: int = 4, low: bool = False, substeps: int = 1, walks: int = 8, refine: int = 0,
    start: Calibration | str | os.PathLike | None = None, peak: float = 2.0, seed: int = 0,
    folder: str | os.PathLike | None = None, progress: bool = True,
) -> Calibration:  # fmt: skip
    """Solve plans and weights for ``sampler``, whose guider is a TaylorSeerGuider. Returns a Calibration.

    ``denoiser`` is what the sampler takes; ``runs`` are dictionaries of keyword arguments for ``sampler(denoiser, **run)``,
    each started once with the random numbers of its own seed (``seed`` plus its index); their tensors are not changed.

    calls      denoiser calls a run may make; a list shares the reference runs between several budgets
    scales     guidance scales at which each run is walked: the weights are then polynomials in the scale, solved for all of them
               together, and serve every scale from the lowest to the highest; None: the guider's own alone
    degree     of that polynomial, 1 or 2
    history    newest outputs that an answer may weigh, which is what later runs hold
    low        weigh 4x4 means of everything too, so that low and high frequencies get weights of their own
    substeps   steps of the reference, of order 4, in each of the host's steps
    walks      plans that a quarter of the runs try with real calls, for each budget, after a search on the recorded reference
    refine     times that each budget's run is followed back by its gradient, to move all of its weights together
    start      a Calibration, or its file, of the same sampler and schedule, whose plans and weights are tried first: for new
               weights of a network, other scales or further budgets
    peak       of the PSNR that is reported: the range of what is sampled, 2 for images in [-1, 1]
    folder     keep recordings there, not in memory; a calibration that was interrupted goes on from what it holds
    progress   show a bar

    Weights stay near the solver's that answers without a calibration, as far as samples that are left out while they are solved
    say. Of 12 samples or more every fourth is left out of all of it: of the gradients' moves the one that serves those best is
    kept, ``about`` says what they came to beside `calls` alone, and the log warns where that is not better.

    Costs about ``4 * substeps + 1`` denoiser calls for each step of each of ``runs``; then, for each budget and each of them,
    ``walks / 4 * (calls - 1)`` for the walks, ``2 * (calls - 1)`` for the best plans, ``refine * (calls - 1)``, forward and
    back, for the gradients, and ``calls - 1`` to compare with `calls` alone; with ``scales``, all of it for each of them. Raises
    ValueError for a sampler, guider or schedule that cannot be calibrated, with the reason, for ``scales`` where outputs are not
    of two branches, and where ``refine`` is asked of a denoiser that lets no gradient through.
    """
    from .calibration.fit import calibrated

    return calibrated(
        sampler, denoiser, runs, calls, scales=scales, degree=degree, history=history, low=low, substeps=substeps, walks=walks,
        refine=refine, start=start, peak=peak, seed=seed, folder=folder, progress=progress,
    )  # fmt: skip
