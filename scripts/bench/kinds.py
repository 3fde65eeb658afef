"""The workloads of the comparison: at which scales, on how many pictures, and what may be fitted on what."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from taylorseer_guider import Calibration
from taylorseer_guider.commands.origin import digest_of_file
from taylorseer_guider.tiny import WEIGHTS

from .workloads import embedded, fashion, galaxies, mixture

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = tuple(sorted(CONFIGS.glob("tiny_calibration*.yaml")))


def shipped_for(scale):
    """The file that ships for a guidance ``scale``."""
    return next(path for path in SHIPPED if Calibration.load(path).fitted.holds(scale))


@dataclass(frozen=True)
class Kind:
    """``held_out(scale, count)`` is what methods are compared on, ``training(scale, count)`` what fitted ones may look at."""

    name: str
    held_out: Callable
    training: Callable
    scales: tuple[float, ...]
    pictures: int = 32
    fitted_on: int = 24  # pictures
    calibrations: tuple[Path, ...] = ()  # that ship; where there are none, one is made
    fits_of: str | None = None  # the kind whose fits are used
    budgets: tuple[int, ...] | None = None  # where they are fewer than the others'
    lines: tuple[str, ...] | None = None  # where they are fewer, since calls are dear: labels
    trained: tuple[int, ...] = (6, 8, 10)  # calls of solvers that are trained by gradients
    cheap: bool = False  # whether such training may try several optimizers, and go on for long
    perceptual: bool = False  # whether FLIP and SSIMULACRA2 say anything about such pictures
    network: Path | None = None  # the file of its weights, where they have been trained anew since rows were first measured

    def wants(self, label):
        """Whether ``label`` is one of its lines, but for whose code it is."""
        return self.lines is None or label.split(" (")[0] in self.lines

    def made(self, scale, **more):
        """What decides the figures of its rows (see ``Store``)."""
        network = {} if self.network is None else {"network": digest_of_file(self.network)}
        return {"workload": self.name, "scale": scale, **more, **network}


# Where calls are dear: ours, and of others those that were near the front where all lines ran
LINES = (
    "TaylorSeerGuider", "TaylorSeerGuider, calibrated", "DPM++2M", "iPNDM4", "DPM++3M", "UniPC2", "DEIS3", "DPM++2M, our nodes",
    "iPNDM4, our nodes", "UniPC3, our nodes", "DPM++3M, our nodes", "TaylorSeer 1", "TaylorSeer 2", "HiCache 2",
    "Spectrum, half a line, even nodes", "FSampler, DPM++2M", "L2P", "L2P, our plan", "GS", "BNS",
    "FasterCache, DPM++2M", "LinearAG, DPM++2M", "Adaptive Guidance, DPM++2M",
)  # fmt: skip


def _galaxies(name, lines=LINES):
    return Kind(name, partial(galaxies.held_out, name=name), partial(galaxies.training, name=name), (1.0,), lines=lines)


DEAR = {"lines": LINES, "budgets": (5, 6, 8, 10, 13), "trained": (8,)}
_EMBEDDED = Kind(
    "embedded", embedded.held_out, embedded.training, (1.0, 1.5, 2.5), fitted_on=8, calibrations=SHIPPED, perceptual=True,
    network=WEIGHTS, **DEAR,
)  # fmt: skip
_WIDE = Kind(
    "embedded-96", partial(embedded.held_out, size=96), embedded.training, (1.0, 2.5), pictures=16, fitted_on=8,
    calibrations=SHIPPED, fits_of="embedded", budgets=(5, 8), lines=LINES, trained=(8,), perceptual=True,
    network=WEIGHTS,
)  # fmt: skip
_FASHION = Kind("fashion", fashion.held_out, fashion.training, (1.0, 3.0, 5.0, 7.5), fitted_on=12, **DEAR)
_MIXTURE = Kind("mixture", mixture.held_out, mixture.training, (1.0, 1.5, 2.5), cheap=True)
_GALAXIES = (_galaxies("hsc64", lines=None), _galaxies("lsst60"), _galaxies("quasar72"))
KINDS = {kind.name: kind for kind in (_MIXTURE, *_GALAXIES, _FASHION, _EMBEDDED, _WIDE)}
