"""Between images and what the model diffuses: ``GAIN`` times the residual over the bicubically enlarged image."""

import torch
import torch.nn.functional as F

FACTOR = 4  # enlargement
GAIN = 4.0  # brings the residual's spread near EDM's sigma_data = 0.5


def from_uint8(image):
    """uint8 array or tensor (..., H, W, 3) -> float32 tensor (..., 3, H, W) in [-1, 1]."""
    return torch.as_tensor(image).movedim(-1, -3).float() / 127.5 - 1


def to_uint8(image):
    """Tensor (..., 3, H, W) in [-1, 1], clipped there -> uint8 tensor (..., H, W, 3). One of uint8 is only turned."""
    if image.dtype == torch.uint8:
        return image.movedim(-3, -1)
    return ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1)


def shrink(image, factor=FACTOR):
    """Antialiased bicubic reduction of (B, 3, H, W) by ``factor``, rounded to 8 bits as a file would be."""
    height, width = (round(n / factor) for n in image.shape[-2:])
    small = F.interpolate(image, size=(height, width), mode="bicubic", antialias=True)
    return from_uint8(to_uint8(small))


def enlarge(small):
    """Bicubic enlargement of (B, 3, h, w) to (B, 3, 4h, 4w): the model's conditioning and the baseline to beat."""
    return F.interpolate(small, scale_factor=FACTOR, mode="bicubic").clamp(-1, 1)


def residual(image, enlarged):
    """What the model diffuses."""
    return GAIN * (image - enlarged)


def with_residual(x, enlarged):
    """The image that a diffused residual ``x`` stands for, in [-1, 1]."""
    return (enlarged + x / GAIN).clamp(-1, 1)
