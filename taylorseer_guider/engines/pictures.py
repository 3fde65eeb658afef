"""Reading the pictures that people have, within limits."""

import logging
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..files import PICTURES, first_line
from .errors import UserError

logger = logging.getLogger(__name__)
LARGEST = 8192 * 8192  # pixels of what is made


def find_pictures(path):
    """``path`` itself, or the pictures in the folder ``path``, as {name: file}. UserError where there is none."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"--input-path {path}: no such file or folder; check the spelling")
    if not path.is_dir():
        return {path.stem: path}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise UserError(f"--input-path {path}: no picture in this folder; put {', '.join(PICTURES)} files there")
    return named_apart(files)


def named_apart(files):
    """{name: file}: the stem of each of ``files``, with its suffix where others have that stem, and a number if need be.

    Names that differ in case alone would be one file on some disks, so they count as the same.
    """
    stems, names = Counter(file.stem.casefold() for file in files), {}
    for file in files:
        name = wanted = file.stem if stems[file.stem.casefold()] == 1 else file.name.replace(".", "-")
        taken = {known.casefold() for known in names}
        number = 2
        while name.casefold() in taken:
            name, number = f"{wanted}-{number}", number + 1
        names[name] = file
    return names


def readable(files):
    """(name, picture) of each of ``files`` ({name: path}), as they are asked for; those that cannot be read are skipped."""
    return each_of(files, lambda name, file: (name, read_picture(file)))


def each_of(files, make):
    """What ``make(name, file)`` gives for each of ``files`` ({name: path}), as it is asked for. One of several of which it raises
    UserError is skipped, and the log names it; UserError where that leaves none.
    """
    broken = 0
    for name, file in files.items():
        try:
            made = make(name, file)
        except UserError as error:
            broken += 1
            if broken == len(files):
                raise
            logger.warning("skipped: %s", error)
        else:
            yield made


@dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded, and turned."""

    height: int
    width: int
    dropped: tuple  # what is in the file and not in what ``read_picture`` makes of it


def read_header(path, factor=1):
    """The Header of the picture at ``path``. UserError as ``read_picture``, for what is seen without decoding."""
    with readable_file(path, factor) as opened:
        return Header(opened.height, opened.width, tuple(what for what, there in DROPPED.items() if there(opened)))


def of_16_bits(opened):
    return opened.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in getattr(opened, "tile", ()))


DROPPED = {
    "transparency is laid over white": lambda opened: opened.has_transparency_data,
    "16 bits a channel become 8": of_16_bits,
    "of several frames or pages the first is taken": lambda opened: getattr(opened, "is_animated", False),
}


def read_picture(path, factor=1):
    """The picture at ``path`` as uint8 (H, W, 3): turned as EXIF says, transparency over white, 16 bits reduced to 8.

    UserError for what is no regular file (a pipe would block), for what cannot be read, and for a picture that has more than
    ``LARGEST`` pixels when it is ``factor`` times larger, which is seen before it is decoded.
    """
    with readable_file(path, factor) as opened:
        picture, clear = ImageOps.exif_transpose(opened), None
        if picture.mode.startswith("I") or picture.mode == "F":
            values = np.asarray(picture)
            clear = values == opened.info.get("transparency")  # the grey that is transparent, if there is one
            picture = eight_bits(values, 1 if picture.mode == "F" else 65535)
        picture = picture.convert("RGBA")
        if clear is not None:
            picture.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
        return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


@contextmanager
def readable_file(path, factor):
    """The picture at ``path``, opened; whatever is wrong with it, here or in the context, is a UserError."""
    if not Path(path).is_file():
        raise UserError(f"{path}: not a regular file; save the picture to a file and name that")
    try:
        with warnings.catch_warnings(), opened_quietly(path) as opened:
            if opened.width * opened.height * factor**2 > LARGEST:
                raise too_large(path, f"{opened.width}x{opened.height} pixels", factor)
            yield opened
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise too_large(path, f"over {2 * Image.MAX_IMAGE_PIXELS:,} pixels", factor) from None
    except Exception as error:  # decoders raise anything on a damaged file
        reason = first_line(error)
        raise UserError(f"{path}: not a picture that can be read ({reason}); give a PNG, JPEG or WebP file") from None


def opened_quietly(path):
    """``path`` opened, without Pillow's warning of large pictures: the limit here is lower."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    return Image.open(path)


def too_large(path, size, factor):
    """The UserError for a picture of ``size`` that would be made ``factor`` times larger."""
    enlarged = f", to be made {factor} times larger" if factor > 1 else ""
    why = f"at most {LARGEST >> 20} Mpixel (8192x8192) are made"
    return UserError(f"{path}: {size}{enlarged}; {why}; cut or shrink the picture first")


def eight_bits(values, white):
    """Grey ``values`` (H, W) from 0 to ``white`` as an 8-bit picture; brighter ones, as in HDR pictures, become white."""
    return Image.fromarray((np.nan_to_num(values.astype(np.float64)) / white * 255).round().clip(0, 255).astype(np.uint8))
