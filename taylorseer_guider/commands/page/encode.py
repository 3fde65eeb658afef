"""Pictures, uint8 (H, W, 3), as text that a page can hold."""

import hashlib
from base64 import b64encode
from io import BytesIO

from PIL import Image

WIDEST_WEBP = 16383  # pixels of a side
THUMBNAIL = (240, 160)


def data_uri(pixels):
    """Without loss: WebP, a fifth smaller than PNG, which is for what is too long for WebP."""
    if max(pixels.shape[:2]) > WIDEST_WEBP:
        return _uri(Image.fromarray(pixels), "PNG")
    return _uri(Image.fromarray(pixels), "WEBP", lossless=True, quality=50)


def thumbnail(pixels):
    """A small one, to choose by."""
    image = Image.fromarray(pixels)
    image.thumbnail(THUMBNAIL)
    return _uri(image, "WEBP", quality=80)


def digest(pixels):
    """The same for the same pixels."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def _uri(image, kind, **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(file.getvalue()).decode()}"
