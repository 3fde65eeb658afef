"""Files written without leaving halves, and the contact sheet."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import replacing

MARGIN, CAPTION = 8, 40  # pixels of the contact sheet
NARROWEST, WIDEST = 240, 768  # of one of its panels: a caption fits, and a large picture shows its centre pixel for pixel


def write_picture(path, picture):
    """uint8 (H, W, 3) -> PNG."""
    with replacing(path) as partial:
        Image.fromarray(np.asarray(picture)).save(partial, format="PNG")


def write_text(path, text):
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def fitted(panel):
    """The pixels of a small panel, repeated."""
    times = -(-NARROWEST // panel.shape[1])
    return panel.repeat(times, axis=0).repeat(times, axis=1)


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
