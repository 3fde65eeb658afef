"""One result: the runs that make it, its figures, and the pictures that show it."""

from dataclasses import dataclass
from time import perf_counter

import torch
from tqdm import tqdm

from .. import TaylorSeerGuider, __version__, tiny
from ..engines.errors import explained
from ..engines.pictures import read_picture
from ..engines.tiles import scaled
from ..tiny.photographs import photograph
from .figures import measure, sheet_panels
from .outputs import recorded, visit_errors
from .pictures import contact_sheet
from .results import SHEET, Made


@dataclass
class Run:
    """One picture made, and what that took: (1, 3, H, W) in [-1, 1], or uint8 where it was made in tiles.

    Calls, forecasts and report of a tiled run are those of one tile; seconds are those of all.
    """

    picture: torch.Tensor
    calls: int
    forecasts: int
    seconds: float
    report: dict | None


def sample(engine, sampler, small, seed, label=None, tile=0):
    """Run ``sampler`` once, or once a tile of ``tile`` pixels (0: none); a ``label`` shows calls and forecasts as it goes."""
    if tile:
        return tiled(engine, sampler, small, seed, label, tile)
    with explained("engine", "cannot prepare a run"):
        arguments = engine.arguments(small, seed)
    return one_run(engine, sampler, small, arguments, label)


def one_run(engine, sampler, small, arguments, label):
    """The Run of ``sampler`` from ``arguments``."""
    calls, guider, steps = 0, sampler.guider, sampler.get_sigma_gen
    ours = isinstance(guider, TaylorSeerGuider)

    def denoiser(*args, **kwargs):
        nonlocal calls
        calls += 1
        return engine.denoiser(*args, **kwargs)

    def shown_steps(num_sigmas):
        with tqdm(total=num_sigmas - 1, desc=label, unit="step", leave=False, disable=label is None) as bar:
            for step in steps(num_sigmas):
                yield step
                bar.set_postfix(calls=calls, forecasts=guider.report.forecasts if ours else 0, refresh=False)
                bar.update()

    sampler.get_sigma_gen = shown_steps
    start = perf_counter()
    try:
        with torch.inference_mode(), explained("sampler_config", "its run failed"):
            picture = engine.picture(sampler(denoiser, **arguments), small)
    finally:
        del sampler.get_sigma_gen
    seconds, report = perf_counter() - start, guider.report.to_dict() if ours else None
    return Run(picture, calls, report["forecasts"] if ours else 0, seconds, report)


def tiled(engine, sampler, small, seed, label, tile):
    """The Run of all tiles, put together in 8 bit."""
    factor, seconds = engine.factor, 0.0
    whole = torch.empty(*small.shape[:2], *(n * factor for n in small.shape[2:]), dtype=torch.uint8)
    for number, (window, piece, arguments) in enumerate(engine.pieces(small, seed, tile), 1):
        made = one_run(engine, sampler, piece, arguments, label and f"{label}, tile {number}")
        pixels = tiny.to_uint8(made.picture[(..., *window.inside(factor))]).movedim(-1, -3)
        whole[(..., *scaled(window.kept, factor))] = pixels
        seconds += made.seconds
    return Run(whole, made.calls, made.forecasts, seconds, made.report)


def opened(task, engine, shrink_first):
    """(name, small, original or None) of a task's picture, as ``engine`` takes it."""
    picture, factor = task.picture, 1 if shrink_first else engine.factor
    pairs = []
    if picture.content is not None:
        pixels = photograph(picture.name) if picture.file is None else read_picture(picture.file, factor)
        pairs = [(picture.name, pixels)]
    ((name, small, original),) = engine.inputs(pairs, shrink_first)
    return name, small, original


def make(job, args, engine, task, sampler, shown=True):
    """The result of ``task``: sampled by ``sampler``, compared with the full run where that is asked for, and measured."""
    with explained("engine", "cannot prepare a run"):
        name, small, original = opened(task, engine, args.shrink_first)
    label, full, errors = name if shown else None, None, None
    if args.compare and isinstance(sampler.guider, TaylorSeerGuider):
        made, full, errors = beside_full_run(job, engine, sampler, task, small, label)
    else:
        made = sample(engine, sampler, small, task.seed, label, task.tile)
    with explained("engine", "cannot show a result"):
        figures = measure(made, full, engine, small, original)
        panels = sheet_panels(made, full, engine, small, original, figures)
        pictures = {SHEET: contact_sheet(panels), "": tiny.to_uint8(made.picture)[0].numpy()}
        if full is not None:
            pictures = {"_full": tiny.to_uint8(full.picture)[0].numpy(), **pictures}
        if args.compare or args.report:
            pictures = {**inputs(engine, small, original), **pictures}
    about = {"name": name, "job": job.name, "seed": task.seed, "source": task.picture.address}
    about |= {"made_from": task.made_from, "version": __version__}
    return Made(task.name, {**figures, **about, "visit_errors": errors, "report": made.report}, pictures)


def beside_full_run(job, engine, sampler, task, small, label):
    """(Run, that of the full run, how far each visit is off): ``visit_errors``, which are not had of tiles."""
    baseline = job.full_sampler()
    with explained("engine", "cannot prepare a run"):
        engine.warm_up(small[..., :64, :64] if task.tile else small)
    with recorded(sampler, baseline, when=not task.tile) as (outputs, wanted):
        full = sample(engine, baseline, small, task.seed, label and f"{label}, full run", task.tile)
        made = sample(engine, sampler, small, task.seed, label, task.tile)
    return made, full, visit_errors(outputs, wanted, engine.peak)


def inputs(engine, small, original):
    """What a report shows beside an enlargement: what went in, enlarged bicubically, and the original where there is one."""
    if engine.factor == 1:
        return {}
    shown = {"_low": small, "_bicubic": engine.enlarged(small), "_original": original}
    return {suffix: tiny.to_uint8(picture)[0].numpy() for suffix, picture in shown.items() if picture is not None}
