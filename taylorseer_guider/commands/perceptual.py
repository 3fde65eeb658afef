"""How far two pictures are apart to a person's eye: FLIP and SSIMULACRA2, picture by picture. Neither needs weights.

Batches are (N, C, H, W) in [-1, 1], which is clamped; one channel is shown as grey. A figure is None where it cannot be had.
"""

import logging
from functools import cache
from importlib import metadata
from io import BytesIO

import numpy as np
from PIL import Image

log = logging.getLogger(__name__)

VERSIONS = {"flip-evaluator": "1.7", "ssimulacra2": "0.3.0"}
SCALES_FROM = 225  # pixels: from here on SSIMULACRA2 has all of its six scales, each half the size and of 8 pixels at least


def available():
    """{missing package: remedy}."""
    return {name: f"pip install --no-deps {name}=={version}" for name, version in VERSIONS.items() if not _installed(name)}


def flip(pictures, references):
    """Mean LDR-FLIP of each picture, 0 (same) to 1: package flip-evaluator, its default of 67 pixels per degree.

    So a picture of 64 pixels is seen at one degree's width, as on a screen.
    """
    return _each("flip-evaluator", _flip, pictures, references)


def ssimulacra2(pictures, references):
    """SSIMULACRA2 of each picture, 100 (same) and falling, below 0 where hardly alike: package ssimulacra2, of 8-bit pictures.

    Its weights belong to six scales; with fewer, of small pictures, it would take those of other features. So a picture of less
    than 225 pixels is enlarged by the smallest whole factor, pixel by pixel. Transparency is left out.
    """
    return _each("ssimulacra2", _ssimulacra2, pictures, references)


def _each(package, measure, pictures, references):
    """``measure(picture, reference)`` of each pair of (H, W, 3) in [0, 1]; Nones where ``package`` is missing."""
    if pictures.shape != references.shape:
        raise ValueError(f"pictures are {tuple(pictures.shape)}, references {tuple(references.shape)}; they must be alike")
    if remedy := available().get(package):
        _say(f"{package} is not installed, so its figures are left out; {remedy}")
        return [None] * len(pictures)
    return [measure(*pair) for pair in zip(_shown(pictures), _shown(references), strict=True)]


def _flip(picture, reference):
    import flip_evaluator

    pair = [np.ascontiguousarray(each, dtype=np.float32) for each in (reference, picture)]
    return float(flip_evaluator.evaluate(*pair, "LDR", applyMagma=False)[1])


def _ssimulacra2(picture, reference):
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(_file(reference), _file(picture)))


def _file(picture):
    """A PNG in memory, large enough for six scales: the package reads files."""
    factor = -(-SCALES_FROM // min(picture.shape[:2]))
    large = np.rint(picture * 255).astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
    file = BytesIO()
    Image.fromarray(large).save(file, "PNG", compress_level=0)
    file.seek(0)
    return file


def _shown(pictures):
    """(N, H, W, 3) in [0, 1] of (N, 1 or 3, H, W) in [-1, 1]."""
    if pictures.shape[1] not in (1, 3):
        raise ValueError(f"pictures have {pictures.shape[1]} channels; they must have 1 or 3")
    pictures = pictures.detach().float().cpu().clamp(-1, 1).expand(-1, 3, -1, -1)
    return ((pictures + 1) / 2).movedim(1, -1).numpy()


def _installed(package):
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


@cache
def _say(message):
    """Once a process."""
    log.warning(message)
