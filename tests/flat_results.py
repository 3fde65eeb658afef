"""Results as sample.py leaves them, small and made of flat colours, so that every figure of a page is known."""

import json

import numpy as np
from PIL import Image

SIZE = (48, 32)
GREY = 100  # of the original; what was made of it is a little brighter
BRIGHTER = {"bicubic": 40, "full_run": 10, "run": 13, "original": 0}
VISITS = [
    {"step": i, "sigma": 10.0 / (i + 1), "action": "call" if i % 2 == 0 else "forecast", "order": i % 2, "weight_sum": 1.5,
     "error": None, "seconds": 0.5 if i % 2 == 0 else 0.002}
    for i in range(6)
]  # fmt: skip


def write_result(folder, name="cat_x4", job="euler6-taylorseer-i2-s1", seed=0, run=BRIGHTER["run"], full=True, **figures):
    """Pictures and their JSON in ``folder``; returns the JSON's path. ``run``: how much brighter than the original it is."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, shades = f"{name}_{job}_seed{seed}", {**BRIGHTER, "run": run}
    if not full:
        del shades["full_run"]
    pictures = {role: f"{stem}{'' if role == 'run' else '_' + role}.png" for role in shades}
    for role, brighter in shades.items():
        write_flat(folder / pictures[role], GREY + brighter)
    pictures["low_resolution"] = f"{stem}_low.png"
    write_flat(folder / pictures["low_resolution"], GREY, (SIZE[0] // 4, SIZE[1] // 4))
    compared = {"full_calls": 6, "full_seconds": 3.0, "speed_up": 2.0, "visit_errors": [0.0, 0.02, 0.004, 0.03, 0.01, 0.05]}
    figures = {
        "name": name, "job": job, "seed": seed, "made_from": {"picture": "a digest"}, "pictures": pictures,
        "calls": 3, "forecasts": 3, "seconds": 1.5,
        **(compared if full else {}), "report": {"calls": 3, "visits": VISITS}, **figures,
    }  # fmt: skip
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(figures))
    return path


def write_flat(path, shade, size=SIZE):
    Image.fromarray(np.full((size[1], size[0], 3), shade, np.uint8)).save(path)
