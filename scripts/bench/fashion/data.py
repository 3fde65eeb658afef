"""Fashion-MNIST as Debian's package dataset-fashion-mnist holds it: pictures in [-1, 1] and what they show."""

import gzip
from pathlib import Path

import numpy as np
import torch

from taylorseer_guider.engines.errors import UserError

CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
PIXELS = 28
HEADERS = {"images": 16, "labels": 8}  # bytes before the values of an IDX file


def read(folder, part):
    """(pictures (N, 1, 28, 28) float32 in [-1, 1], classes (N,) int64) of ``part``, train or t10k."""
    images = _values(folder, f"{part}-images-idx3-ubyte.gz", HEADERS["images"]).reshape(-1, 1, PIXELS, PIXELS)
    classes = _values(folder, f"{part}-labels-idx1-ubyte.gz", HEADERS["labels"])
    return torch.from_numpy(images).float() / 127.5 - 1, torch.from_numpy(classes).long()


def _values(folder, name, header):
    path = Path(folder) / name
    if not path.is_file():
        raise UserError(f"--data-dir {folder}: no {name} there; apt-get install dataset-fashion-mnist, or name its folder")
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header).copy()
