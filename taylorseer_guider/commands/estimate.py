"""What a large picture will take, before it is begun: memory and seconds, from one small run."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from ..engines.errors import UserError
from ..engines.tiles import LARGE, windows

KEPT, COMPARED = 8, 250  # bytes of a pixel: the result of a tiled run, twice; what figures of two pictures take
OVERHEAD = 1 << 27  # bytes that an allocator holds back
PROBE = 32  # pixels of what is enlarged: height and width of the small run
GIB = 1 << 30


@dataclass(frozen=True)
class Rate:
    """What a run of a job takes: denoiser calls, branches in a batch, and seconds of a call for a pixel and a branch."""

    calls: int
    branches: int
    seconds: float


def rate(job, engine, compare):
    """The Rate of ``job``, measured on ``PROBE`` pixels of grey. Where it learns, that of its full run, which comes first; where
    ``plan.tolerance`` decides at each visit, that of the full run, which is the most that it can be.
    """
    grey, calls, branches = torch.zeros(1, 3, PROBE, PROBE), 0, 1

    def counted(x, *args, **kwargs):
        nonlocal calls, branches
        calls, branches = calls + 1, max(branches, len(x))
        return x  # nothing is run: calls are planned, not answered

    sampler = job.sampler()
    settings = getattr(sampler.guider, "settings", None)
    learns = bool(settings and settings.learn)
    own = job.full_sampler() if learns or (settings and settings.plan.tolerance is not None) else sampler
    for each in [own, *([job.full_sampler()] if compare and not learns else [])]:
        with torch.inference_mode():
            each(counted, **engine.arguments(grey, 0))
    first, second = (seconds_of(lambda: engine.warm_up(grey), job.device) for _ in range(2))
    return Rate(calls, branches, min(first, second) / (PROBE * engine.factor) ** 2)


def seconds_of(work, device):
    """How long ``work()`` takes, with what it leaves to the device."""
    start = perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - start


def memory(task, engine, branches, dtype, more):
    """Bytes that ``task`` takes beside the program; ``more`` is whether its result is compared with another picture."""
    width = {"float32": 4}.get(dtype, 2) / 4
    seen, _ = seen_pixels(task, engine.factor)
    whole = task.pixels * (KEPT * bool(task.tile) + COMPARED * more)
    return int(seen * engine.bytes_per_pixel * width * branches + whole) + OVERHEAD


def seen_pixels(task, factor):
    """(pixels that are made in one piece, pixels that are made in all)."""
    if not task.tile:
        return task.pixels, task.pixels
    pieces = windows(task.height // factor, task.width // factor, task.tile, factor)
    areas = [factor**2 * (rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in (w.seen for w in pieces)]
    return max(areas), sum(areas)


def free_memory(device):
    """Bytes that can be had on ``device``; None where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        return min(free, limit - used)
    except (OSError, ValueError):  # no limit is "max"
        return free


def check(work, args, job, engine):
    """Say what the largest picture of ``work`` will take; those that cannot fit go from its tasks to what is broken."""
    large = [task for task in work.todo if task.pixels > LARGE]
    if not large or not hasattr(engine, "bytes_per_pixel"):
        return
    found, free, more = rate(job, engine, args.compare), free_memory(job.device), args.compare or args.shrink_first
    at_once = args.devices if job.device == "cpu" else 1
    needed = [(at_once * memory(task, engine, found.branches, job.dtype, more), task) for task in large]
    for need, task in needed:
        if free is not None and need > free:
            refuse(work, args, task, need, free)
    if fitting := [(need, task) for need, task in needed if free is None or need <= free]:
        print(said(*max(fitting, key=lambda pair: pair[0]), len(fitting), found, engine))


def refuse(work, args, task, need, free):
    """Take ``task``, which does not fit, out of ``work``. UserError where it is all that there was to make."""
    ways = {"--compare": args.compare, "--shrink-first": args.shrink_first and args.input_path, "--tile 0": args.tile == 0}
    ways = [f"leave out {name}" for name, given in ways.items() if given] + ["use fewer --devices"] * (args.devices > 1)
    size = f"{task.width}x{task.height} pixels to make need about {need / GIB:.1f} GiB, and {free / GIB:.1f} are free"
    message = f"{task.picture.name}: {size}; {', or '.join(ways) or 'shrink or cut it first'}"
    if len(work.todo) == 1:
        raise UserError(message)
    work.todo.remove(task)
    work.broken.append((task.name, message))


def said(need, task, count, found, engine):
    """One line on ``task``, the largest of ``count`` large ones."""
    seconds = found.calls * found.branches * found.seconds * seen_pixels(task, engine.factor)[1]
    took = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
    pieces, others = f" in tiles of {task.tile}" if task.tile else "", f" (the largest of {count})" if count > 1 else ""
    size = f"{task.width}x{task.height} pixels to make{pieces}{others}"
    return f"{task.picture.name}: {size}, about {need / GIB:.1f} GiB and {took}"
