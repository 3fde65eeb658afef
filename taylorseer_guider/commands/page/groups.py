"""One group: its pictures with the keys that choose them, its rows of figures, the strips of its runs."""

from .strips import legend, strip
from .tables import columns_and_rows, count, shown

RUN_KEYS, FULL_KEYS = "123456789", "fghijk"  # there are several full runs where schedules differ
NEAR = {"psnr": "PSNR, dB", "ssim": "SSIM", "flip": "FLIP", "ssimulacra2": "SSIMULACRA2"}


def view(placed, shelf):
    """The group of ``placed``, pairs of an Entry and its pictures on the ``shelf`` as {role: digest}."""
    placed = sorted(placed, key=lambda pair: (pair[0].figures["calls"], pair[0].figures["job"]))
    pictures, values = zip(*_pictures(placed, shelf), strict=True)
    rows = [{"picture": i, "values": found} for i, found in enumerate(values) if found is not None]
    columns, rows = columns_and_rows(rows)
    keys = [picture["key"] for picture in pictures]
    best = next((n for n, (_, names) in enumerate(placed[: len(RUN_KEYS)]) if "full_run" in names), 0)
    strips = [found for entry, _ in placed if (found := strip(entry.figures))]
    first, (width, height) = placed[0][0].figures, placed[0][0].size
    return {
        "name": f"{first['name']}, seed {first['seed']}", "size": f"{width} × {height} pixels", "ratio": width / height,
        "pictures": pictures, "left": next(keys.index(key) for key in "bfl1" if key in keys), "right": keys.index(RUN_KEYS[best]),
        "columns": columns, "rows": rows, "strips": strips, "bars": legend(strips),
    }  # fmt: skip


def _pictures(placed, shelf):
    """(picture, its figures or None) of each picture, once, in the order in which a person would look at them."""
    original = next((names["original"] for _, names in placed if "original" in names), None)

    def near(file, band, reference):
        apart = shelf.apart(file, reference) if reference and reference != file else {}
        return {(band, NEAR[name]): value for name, value in apart.items()}

    for file, _ in _once(placed, "low_resolution"):
        height, width = shelf.pixels(file).shape[:2]
        yield {**_picture("l", f"low resolution, {width} × {height}", file), "coarse": True}, None
    for file, _ in _once(placed, "bicubic"):
        yield _picture("b", "bicubic", file), near(file, "To the original", original)
    full_runs = _once(placed, "full_run")
    for n, (file, figures) in enumerate(full_runs):
        cost = {("Cost", "calls"): figures.get("full_calls"), ("Cost", "seconds"): figures.get("full_seconds")}
        label = f"full run, {shown(figures.get('full_calls'))} calls" + (f", of {figures['job']}" if len(full_runs) > 1 else "")
        yield _picture(FULL_KEYS[n : n + 1], label, file), {**cost, **near(file, "To the original", original)}
    for n, (entry, names) in enumerate(placed):
        cost = {("Cost", name): entry.figures.get(name.replace("-", "_")) for name in ("calls", "seconds", "speed-up")}
        full = near(names["run"], "To the full run", names.get("full_run"))
        caption = _caption(entry.figures, full)
        picture = _picture(RUN_KEYS[n : n + 1], _run_label(entry.figures, placed), names["run"], entry.figures["job"], caption)
        yield picture, {**cost, **full, **near(names["run"], "To the original", original)}
    for file, _ in _once(placed, "original"):
        yield _picture("o", "original", file), None


def _caption(figures, full):
    """What the run saved and what that cost, in a line."""
    if not full:
        return f"{count(figures['calls'], 'call')}, {shown(figures.get('seconds'), '{:.1f} s')}"
    near = shown(full["To the full run", "PSNR, dB"], "{:.1f} dB from the full run")
    fewer = f"{count(figures['calls'], 'call')} instead of {shown(figures.get('full_calls'))}"
    return f"{fewer}, {shown(figures.get('speed_up'), '{:.1f}× as fast')}, {near}"


def _picture(key, label, file, detail="", caption=""):
    return {"key": key, "label": label, "detail": detail, "caption": caption, "file": file, "coarse": False}


def _once(placed, role):
    """(digest, figures of the first result that has it) of each picture in this ``role``."""
    found = {}
    for entry, names in placed:
        if role in names:
            found.setdefault(names[role], entry.figures)
    return found.items()


def _run_label(figures, placed):
    """The calls of a run, which is what runs differ in; the method, too, where they do not."""
    label = count(figures["calls"], "call")
    several = sum(entry.figures["calls"] == figures["calls"] for entry, _ in placed) > 1
    return f"{label}, {figures['job']}" if several else label
