"""Photographs that scikit-image and scikit-learn carry: no download, the same everywhere."""

from pathlib import Path

import numpy as np
from PIL import Image

HELD_OUT = ("chelsea", "coffee")
TRAINING = (
    "astronaut", "brick", "camera", "china", "coins", "flower", "grass", "gravel", "ihc",
    "motorcycle_left", "motorcycle_right", "page", "rocket", "text",
)  # fmt: skip


def photograph(name):
    """The photograph ``name`` as a uint8 array (H, W, 3). Raises ValueError for a name that neither package has."""
    for path in _files():
        if path.stem == name:
            return np.asarray(Image.open(path).convert("RGB"))
    raise ValueError(f"no photograph {name!r}; there are {', '.join(HELD_OUT + TRAINING)}")


def _files():
    import skimage.data
    import sklearn.datasets

    skimage_files = Path(skimage.data.__file__).parent.glob("*.*g")
    sklearn_files = (Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg")
    return [*skimage_files, *sklearn_files]
