"""The pictures that a command names, and what engines that enlarge them have in common."""

import torch
from pictures import UserError, find_pictures, read_picture
from torch.nn.functional import interpolate

from taylorseer_guider import tiny
from taylorseer_guider.tiny.photographs import photograph


def sources(args):
    """Yield (name, picture (1, 3, H, W) in [-1, 1]): those of --input-path, or the --photograph."""
    if args.input_path is None:
        yield args.photograph, tiny.from_uint8(photograph(args.photograph).copy())[None]
        return
    for name, file in find_pictures(args.input_path).items():
        yield name, tiny.from_uint8(read_picture(file).copy())[None]


class Engine:
    """An engine whose sampler takes ``x`` and ``cond``."""

    def warm_up(self, small):
        """One call that nobody times: the first one allocates, and on a GPU chooses kernels."""
        run = self.arguments(small, seed=0)
        with torch.inference_mode():
            self.denoiser(run["x"], run["x"].new_ones(len(run["x"])), run["cond"])


class Enlarger(Engine):
    """An engine that makes pictures ``factor`` times larger."""

    on_cuda = "float32"

    def inputs(self, args):
        """Yield (name, small (1, 3, h, w) in [-1, 1], original or None)."""
        for source, image in sources(args):
            name = f"{source}_x{self.factor}"
            if args.input_path is not None and not args.shrink_first:
                yield name, tiny.from_uint8(tiny.to_uint8(image)), None
                continue
            height, width = (n // self.factor * self.factor for n in image.shape[-2:])
            if not height or not width:
                size = f"{image.shape[-1]}x{image.shape[-2]}"
                raise UserError(f"{source}: {size} pixels cannot be shrunk {self.factor} times; leave out --shrink-first")
            original = image[..., :height, :width]
            yield name, tiny.shrink(original, self.factor), original

    def shown(self, small):
        """What went in, pixel by pixel, and its bicubic enlargement."""
        bicubic = self.enlarged(small)
        pixels = interpolate(small, size=bicubic.shape[-2:], mode="nearest")
        return {f"low resolution, {small.shape[-1]} x {small.shape[-2]}": pixels, "bicubic": bicubic}
