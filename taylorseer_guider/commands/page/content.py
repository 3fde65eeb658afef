"""What a page shows of entries, as plain data: groups of what was made of one picture with one seed, side by side."""

from tqdm import tqdm

from ...engines.errors import UserError
from ..perceptual import available
from .encode import thumbnail
from .groups import view
from .shelf import Shelf
from .tables import count

KEYS = (
    ("← →", "move the divider; with Shift, look around where it is zoomed"),
    ("l b f o", "low resolution, bicubic, full run, original on the right; with Shift on the left"),
    ("1 … 9", "a run on the right; with Shift on the left"),
    ("x", "swap left and right"),
    ("d", "their difference, amplified"),
    ("z", "zoom"),
    ("n p", "next and previous picture"),
)
NOTES = (
    "PSNR (dB) and SSIM: higher is nearer. FLIP: 0 is the same to the eye, 1 as far as can be. SSIMULACRA2: 100 is the same, "
    "above 90 is hard to tell apart. All are of the pictures on this page, which are of 8 bit and without loss.",
    "Seconds are of the machine that sampled; the speed-up is the full run's seconds over the run's.",
)


def page_content(entries, faults):
    """The page of ``entries``. What cannot be shown is added to ``faults``, lines that name files."""
    shelf, groups, views = Shelf(), {}, []
    for entry in entries:
        groups.setdefault(entry.alike, []).append(entry)
    for group in tqdm(groups.values(), desc="pictures", disable=len(groups) < 2):
        placed = [(entry, names) for entry in group if (names := _placed(entry, shelf, faults))]
        if placed:
            views.append({**view(placed, shelf), "thumbnail": thumbnail(shelf.pixels(placed[0][1]["run"]))})
        shelf.forget()
    if not views:
        raise UserError("; ".join(faults))
    missing = [f"{name} is not installed, so its figures are left out: {remedy}" for name, remedy in available().items()]
    summary = f"{count(len(views), 'picture')}, {count(sum(map(len, groups.values())), 'run')}"
    return {"summary": summary, "groups": views, "files": shelf.files, "keys": KEYS, "notes": [*NOTES, *missing]}


def _placed(entry, shelf, faults):
    """{role: digest} of the pictures of ``entry``, now on the ``shelf``; None where one cannot be read."""
    try:
        return {role: shelf.put(file) for role, file in entry.pictures.items()}
    except UserError as error:
        faults.append(str(error))
        return None
