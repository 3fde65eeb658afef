"""Pictures in and out of sample.py: reading what people have, writing without leaving halves, and the contact sheet."""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
MARGIN, CAPTION = 8, 40  # pixels of the contact sheet
NARROWEST, WIDEST = 240, 768  # of one of its panels: a caption fits, and a large picture shows its centre pixel for pixel


class UserError(Exception):
    """A mistake that one line can explain, with its remedy."""


def find_pictures(path):
    """``path`` itself, or the pictures in the folder ``path``, as {name: file}. UserError where there is none."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"--input-path {path}: no such file or folder; check the spelling")
    if path.is_file():
        return {path.stem: path}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"--input-path {path}: no picture in this folder; put {', '.join(sorted(SUFFIXES))} files there")
    stems = [file.stem for file in files]
    return {file.stem if stems.count(file.stem) == 1 else file.name.replace(".", "-"): file for file in files}


def read_picture(path):
    """The picture at ``path`` as uint8 (H, W, 3): turned as EXIF says, transparency over white, 16 bits reduced to 8."""
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I") or picture.mode == "F":
                picture = eight_bits(np.asarray(picture), 1 if picture.mode == "F" else 65535)
            picture = picture.convert("RGBA")
            return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a picture that can be read ({error}); give a PNG, JPEG or WebP file") from None


def eight_bits(values, white):
    """Grey ``values`` (H, W) from 0 to ``white`` as an 8-bit picture; brighter ones, as in HDR pictures, become white."""
    return Image.fromarray((np.nan_to_num(values.astype(np.float64)) / white * 255).round().clip(0, 255).astype(np.uint8))


@contextmanager
def replacing(path):
    """A file beside ``path`` to write to; it takes the place of ``path`` only when all went well."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_picture(path, picture):
    """uint8 (H, W, 3) -> PNG."""
    with replacing(path) as partial:
        Image.fromarray(np.asarray(picture)).save(partial, format="PNG")


def write_text(path, text):
    with replacing(path) as partial:
        partial.write_text(text)


def fitted(panel):
    """The centre of a large panel; the pixels of a small one repeated."""
    top, left = (max(n - WIDEST, 0) // 2 for n in panel.shape[:2])
    times = -(-NARROWEST // panel.shape[1])
    return panel[top : top + WIDEST, left : left + WIDEST].repeat(times, axis=0).repeat(times, axis=1)


def contact_sheet(panels, columns=3):
    """``panels``, {caption: uint8 (H, W, 3)} of one size, as one picture with a caption of up to two lines under each."""
    panels = {caption: fitted(np.asarray(panel)) for caption, panel in panels.items()}
    height, width = next(iter(panels.values())).shape[:2]
    rows = -(-len(panels) // columns)
    size = (columns * (width + MARGIN) + MARGIN, rows * (height + CAPTION + MARGIN) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, (caption, panel) in enumerate(panels.items()):
        left = MARGIN + i % columns * (width + MARGIN)
        top = MARGIN + i // columns * (height + CAPTION + MARGIN)
        sheet.paste(Image.fromarray(np.asarray(panel)), (left, top))
        draw.multiline_text((left, top + height + 2), caption, fill="black", font=font, spacing=2)
    return np.asarray(sheet)
