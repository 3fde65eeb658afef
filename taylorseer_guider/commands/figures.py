"""What one picture cost and how near it came, as plain figures, as a summary and as the panels of a contact sheet."""

from math import inf
from statistics import fmean

from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from .. import tiny
from ..engines.base import LOW
from .pictures import WIDEST

LOUDER = 8  # how much the contact sheet amplifies a difference


def psnr(pictures, references, of=fmean):
    """dB: the mean ``of`` each picture's PSNR to its reference (or ``min``, the worst); None where that is inf, being exact.

    Pictures are in [-1, 1], so the data range is 2. They may differ in size from one another. Every dB of a command is this one,
    so that figures of one table, and of two, can stand side by side.
    """
    found = of([peak_signal_noise_ratio(*pair, data_range=2.0).item() for pair in zip(pictures, references, strict=True)])
    return None if found == inf else found


def fidelity(picture, reference):
    """PSNR in dB (None where they are identical) and SSIM between two pictures (1, 3, H, W) as files hold them, in 8 bit."""
    pair = [tiny.from_uint8(tiny.to_uint8(p)) for p in (picture, reference)]
    ssim = structural_similarity_index_measure(*pair, data_range=2.0).item() if min(picture.shape[-2:]) > 11 else None
    return {"psnr": psnr(*pair), "ssim": ssim}


def sharpness(picture):
    """Gradient energy: the mean squared difference between neighbouring pixels."""
    return sum((picture.diff(dim=axis) ** 2).mean().item() for axis in (-1, -2))


def measure(run, full, engine, small, original):
    """Plain figures of one run."""
    figures = {"calls": run.calls, "forecasts": run.forecasts, "seconds": run.seconds}
    if full is not None:
        figures |= {"full_calls": full.calls, "full_seconds": full.seconds, "speed_up": full.seconds / run.seconds}
        figures["to_full_run"] = fidelity(run.picture, full.picture)
    if original is not None:
        pictures = {"run": run.picture, "full_run": full and full.picture, "bicubic": engine.enlarged(small)}
        known = {name: tiny.from_uint8(tiny.to_uint8(picture)) for name, picture in pictures.items() if picture is not None}
        figures["to_original"] = {name: fidelity(picture, original) for name, picture in known.items()}
        if energy := sharpness(original):
            figures["gradient_energy"] = {name: sharpness(picture) / energy for name, picture in known.items()}
    return figures


def sheet_panels(run, full, engine, small, original, figures):
    """The contact sheet's panels: what went in, what came out, and how they differ."""

    def seen(name, key):
        values = figures.get("to_original", {}).get(key)
        return f"{name}\n{shown(values)} to the original" if values else name

    size = "" if small is None else f", {small.shape[-1]} x {small.shape[-2]}"
    inputs = {} if small is None else engine.shown(middle(small, WIDEST // engine.factor))
    panels = {seen(name, name) + size * (name == LOW): panel for name, panel in inputs.items()}
    made = middle(run.picture, WIDEST, engine.factor)
    if full is not None:
        whole = middle(full.picture, WIDEST, engine.factor)
        panels[seen(f"full run, {full.calls} calls, {full.seconds:.0f} s", "full_run")] = whole
    panels[seen(f"{run.calls} calls, {run.forecasts} forecasts, {run.seconds:.0f} s", "run")] = made
    if full is not None:
        caption = f"their difference x {LOUDER}\n{shown(figures['to_full_run'])} to the full run"
        panels[caption] = (made - whole) * LOUDER
    if original is not None:
        panels["original"] = middle(original, WIDEST, engine.factor)
    return {caption: tiny.to_uint8(panel)[0].numpy() for caption, panel in panels.items()}


def middle(picture, size, grid=1):
    """The centre of (1, 3, H, W), ``size`` pixels high and wide at most, beginning at a multiple of ``grid``; in [-1, 1]."""
    top, left = (max(n - size, 0) // 2 // grid * grid for n in picture.shape[-2:])
    part = picture[..., top : top + size, left : left + size]
    return part if part.is_floating_point() else tiny.from_uint8(tiny.to_uint8(part))


def summary(figures):
    """A few aligned lines."""
    rows = [("calls", figures["calls"]), ("forecasts", figures["forecasts"]), ("seconds", f"{figures['seconds']:.1f}")]
    if "to_full_run" in figures:
        rows[0] = ("calls", f"{figures['calls']} (full run {figures['full_calls']})")
        rows[2] = ("seconds", f"{figures['seconds']:.1f} (full run {figures['full_seconds']:.1f})")
        rows.append(("speed-up", f"{figures['speed_up']:.2f}x"))
        rows.append(("to full run", shown(figures["to_full_run"])))
    for name, values in figures.get("to_original", {}).items():
        energy = figures.get("gradient_energy", {}).get(name)
        sharp = "" if energy is None else f", gradient energy {energy:.2f} of the original's"
        rows.append((f"{name.replace('_', ' ')} to original", shown(values) + sharp))
    return "\n".join(f"  {name:<22} {value}" for name, value in rows)


def shown(values):
    if values["psnr"] is None:
        return "identical"
    ssim = "" if values["ssim"] is None else f", SSIM {values['ssim']:.4f}"
    return f"{values['psnr']:.2f} dB{ssim}"
