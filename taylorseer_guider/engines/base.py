"""What engines have in common."""

import torch
from torch.nn.functional import interpolate

from .. import tiny
from .errors import UserError

LOW = "low resolution"  # the caption of what went in


class Engine:
    """An engine whose sampler takes ``x`` and ``cond``."""

    takes_pictures = True

    def warm_up(self, small):
        """One call that nobody times: the first one allocates, and on a GPU chooses kernels."""
        run = self.arguments(small, seed=0)
        with torch.inference_mode():
            self.denoiser(run["x"], run["x"].new_ones(len(run["x"])), run["cond"])


class Enlarger(Engine):
    """An engine that makes pictures ``factor`` times larger."""

    on_cuda = "float32"

    def inputs(self, pictures, shrink_first=False):
        """Yield (name, small (1, 3, h, w) in [-1, 1], original or None) for each (name, uint8 (H, W, 3)) of ``pictures``."""
        for source, picture in pictures:
            name, image = f"{source}_x{self.factor}", tiny.from_uint8(picture.copy())[None]
            yield name, *(self.shrunk(source, image) if shrink_first else (image, None))

    def shrunk(self, source, image):
        """(``image`` shrunk, what of it is then the original). UserError where it is too small for that."""
        height, width = (n // self.factor * self.factor for n in image.shape[-2:])
        if not height or not width:
            size = f"{image.shape[-1]}x{image.shape[-2]}"
            raise UserError(f"{source}: {size} pixels cannot be shrunk {self.factor} times; leave out --shrink-first")
        original = image[..., :height, :width]
        return tiny.shrink(original, self.factor), original

    def shown(self, small):
        """What went in, pixel by pixel, and its bicubic enlargement."""
        bicubic = self.enlarged(small)
        pixels = interpolate(small, size=bicubic.shape[-2:], mode="nearest")
        return {LOW: pixels, "bicubic": bicubic}
