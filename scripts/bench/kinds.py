"""The workloads of the comparison: at which scales, on how many pictures, and what may be fitted on what."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .workloads import embedded, fashion, galaxies, mixture

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = tuple(sorted(CONFIGS.glob("tiny_calibration*.yaml")))


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
    perceptual: bool = False  # whether FLIP and SSIMULACRA2 say anything about such pictures


def _galaxies(name):
    return Kind(name, partial(galaxies.held_out, name=name), partial(galaxies.training, name=name), (1.0,))


_EMBEDDED = Kind(
    "embedded", embedded.held_out, embedded.training, (1.0, 1.5, 2.5), fitted_on=8, calibrations=SHIPPED, perceptual=True
)
_WIDE = Kind(
    "embedded-96", partial(embedded.held_out, size=96), embedded.training, (1.0, 2.5), pictures=16, fitted_on=8,
    calibrations=SHIPPED, fits_of="embedded", budgets=(5, 8), perceptual=True,
)  # fmt: skip
_FASHION = Kind("fashion", fashion.held_out, fashion.training, (1.0, 3.0, 5.0, 7.5))
_MIXTURE = Kind("mixture", mixture.held_out, mixture.training, (1.0, 1.5, 2.5))
KINDS = {kind.name: kind for kind in (_MIXTURE, *map(_galaxies, galaxies.FILES), _FASHION, _EMBEDDED, _WIDE)}
