"""The pictures of a page, each held once, and how far they are apart."""

from ... import tiny
from ...engines.pictures import read_picture
from ..figures import fidelity
from ..perceptual import flip, ssimulacra2
from .encode import data_uri, digest


class Shelf:
    """``files``: {digest: data URI} of every picture that was put here; the pixels themselves until ``forget``."""

    def __init__(self):
        self.files, self._pixels, self._apart = {}, {}, {}

    def put(self, path):
        """The digest of the picture at ``path``. UserError where it cannot be read."""
        pixels = read_picture(path)
        name = digest(pixels)
        self._pixels[name] = pixels
        if name not in self.files:
            self.files[name] = data_uri(pixels)
        return name

    def pixels(self, name):
        """uint8 (H, W, 3)"""
        return self._pixels[name]

    def apart(self, name, reference):
        """PSNR in dB (infinite where identical), SSIM, FLIP and SSIMULACRA2; None where a figure cannot be had."""
        if (name, reference) not in self._apart:
            pair = [tiny.from_uint8(self._pixels[each].copy())[None] for each in (name, reference)]
            near, seen = fidelity(*pair), {"flip": flip(*pair)[0], "ssimulacra2": ssimulacra2(*pair)[0]}
            psnr = float("inf") if near["psnr"] is None else near["psnr"]
            self._apart[name, reference] = {"psnr": psnr, "ssim": near["ssim"], **seen}
        return self._apart[name, reference]

    def forget(self):
        """Let go of the pixels, whose figures are known."""
        self._pixels = {}
