"""Figures as a person reads them: columns and rows of text."""

from math import isinf

ABSENT = "–"
COST = (
    ("calls", "{:g}", "runs of the denoiser"),
    ("seconds", "{:.1f}", "fewer is better"),
    ("speed-up", "{:.2f}×", "more is better"),
)
NEAR = (
    ("PSNR, dB", "{:.2f}", "higher is nearer"),
    ("SSIM", "{:.4f}", "higher is nearer, up to 1"),
    ("FLIP", "{:.4f}", "lower is nearer, down to 0"),
    ("SSIMULACRA2", "{:.1f}", "higher is nearer, up to 100"),
)  # fmt: skip


def shown(value, form="{:g}"):
    """``value`` in ``form``; a dash where there is none, or where it is not a number."""
    if not isinstance(value, (int, float)) or value != value:
        return ABSENT
    if isinf(value):
        return "identical" if value > 0 else ABSENT
    return form.format(value).replace("-", "−")


def count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def columns_and_rows(rows):
    """(columns, rows) as texts of ``rows``: dicts whose ``values`` are figures by (band, name).

    Columns that no row has a figure for are left out.
    """
    bands = (("Cost", COST), ("To the full run", NEAR), ("To the original", NEAR))
    columns = [(band, *column) for band, names in bands for column in names]
    columns = [each for each in columns if any(shown(row["values"].get(each[:2])) != ABSENT for row in rows)]
    heads = [{"band": band, "name": name, "better": better} for band, name, _, better in columns]
    texts = [[shown(row["values"].get((band, name)), form) for band, name, form, _ in columns] for row in rows]
    return heads, [{"picture": row["picture"], "cells": cells} for row, cells in zip(rows, texts, strict=True)]


def in_text(group):
    """The figures of a page's group as aligned lines: its name, the bands of its columns, their names, a line a picture."""
    bands, names = zip(*((column["band"], column["name"]) for column in group["columns"]), strict=True)
    rows = [["", *names], *([group["pictures"][row["picture"]]["label"], *row["cells"]] for row in group["rows"])]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    heads = f"{'':<{first}}"
    for band in dict.fromkeys(bands):
        heads += f"  {band:<{sum(width + 2 for width, of in zip(widths, bands, strict=True) if of == band) - 2}}"
    lines = [f"{label:<{first}}" + "".join(map("  {:>{}}".format, cells, widths)) for label, *cells in rows]
    return "\n".join([group["name"], heads.rstrip(), *lines])
