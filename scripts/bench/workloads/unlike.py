"""Pictures that the embedded model's calibration was not fitted on the like of, to enlarge all the same; and photographs."""

import numpy as np
from PIL import Image, ImageDraw

from . import embedded

SEED, LETTERS = 77, list("abcdefghijkLMNOPQ0123")


def noise(rng, n, crop):
    return rng.integers(0, 256, crop.shape)


def flat(rng, n, crop):
    return np.broadcast_to(rng.integers(0, 256, (1, 1, 3)), crop.shape)


def text(rng, n, crop):
    """Black letters on white."""
    image = Image.new("RGB", crop.shape[1::-1], "white")
    for top in range(0, len(crop), 11):
        ImageDraw.Draw(image).text((1, top), "".join(rng.choice(LETTERS, len(crop) // 6)), fill="black")
    return np.asarray(image)


def edges(rng, n, crop):
    """Black and white stripes along a diagonal, each picture's of another width."""
    across = np.add.outer(np.arange(crop.shape[0]), np.arange(crop.shape[1]))
    return np.repeat(255 * (across // (3 + n) % 2)[..., None], 3, axis=2)


def contrast(factor):
    return lambda rng, n, crop: (crop.astype(float) - 128) * factor + 128


MAKERS = {  # (random numbers, number of the picture, a held-out crop) -> (H, W, 3), clipped to 0 .. 255
    "photographs": lambda rng, n, crop: crop,
    "noise": noise,
    "flat colour": flat,
    "text": text,
    "contrast x 3": contrast(3),
    "contrast / 4": contrast(1 / 4),
    "hard edges": edges,
}


def generator():
    return np.random.default_rng(SEED)


def pictures(kind, count, size=48, scale=1.0):
    """The workload of ``count`` pictures of a ``kind`` of ``MAKERS``."""
    rng = generator()
    images = [MAKERS[kind](rng, n, crop) for n, crop in enumerate(embedded.crops(count, size))]
    return embedded.enlarging([np.clip(image, 0, 255).astype(np.uint8) for image in images], scale, SEED)
