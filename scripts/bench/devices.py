"""Where the benchmark runs: the clock of a device, its name, and workloads that were drawn on the CPU moved to it."""

import platform
from collections import Counter
from dataclasses import replace
from functools import partial
from time import perf_counter
from types import FunctionType, MethodType

import torch

CPU = "CPU"


class Processor:
    """The clock of a CPU. ``stop`` tells the seconds since ``start``; memory is not counted there."""

    device = torch.device("cpu")

    def start(self):
        self._started = perf_counter()

    def stop(self):
        return perf_counter() - self._started

    def peak_bytes(self):
        return None


class Events:
    """The clock of a CUDA device: events in its queue, and the most memory that was allocated between them."""

    def __init__(self, device):
        self.device = device

    def start(self):
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self._started, self._stopped = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._started.record()

    def stop(self):
        self._stopped.record()
        self._stopped.synchronize()
        return self._started.elapsed_time(self._stopped) / 1e3

    def peak_bytes(self):
        return torch.cuda.max_memory_allocated(self.device)


def clock_of(device):
    """The clock of ``device``, "cpu" or "cuda". ValueError where there is none."""
    device = torch.device(device)
    if device.type == "cpu":
        return Processor()
    if device.type != "cuda":
        raise ValueError(f"--device {device}: events are read of cuda, and time of cpu; give one of these")
    if not torch.cuda.is_available():
        raise ValueError(f"--device {device}: torch {torch.__version__} finds no CUDA device; run it where there is one")
    return Events(device)


def ready(device):
    """The ``torch.device`` of that name, without TF32, which would make a figure in dB one of fewer bits. See ``clock_of``."""
    device = clock_of(device).device
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device


def name_of(device):
    """The name that rows carry."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{CPU} ({platform.machine()})"


def whereabouts(rows):
    """A line that says on which devices ``rows`` were measured, and how many on each; None where all are of a CPU."""
    counts = Counter(row.get("device", CPU) for row in rows)
    if all(name.startswith(CPU) for name in counts):
        return None
    return "measured on " + ", ".join(f"{name}: {count} row{'s' * (count > 1)}" for name, count in counts.items())


def moved(workload, device):
    """``workload`` with its tensors on ``device``, and the modules that its denoiser is made of moved there, in place."""
    if workload.noise.device == torch.device(device):
        return workload
    for module in _modules(workload.denoiser, set()):
        module.to(device)
    cond, uc = ({key: value.to(device) for key, value in side.items()} for side in (workload.cond, workload.uc))
    return replace(workload, noise=workload.noise.to(device), cond=cond, uc=uc)


def _modules(thing, seen):
    """The modules that a callable holds: in a partial, a closure, or as attributes."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.nn.Module):
        yield thing
        return
    inside = []
    if isinstance(thing, partial):
        inside = [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, FunctionType):
        inside = [cell.cell_contents for cell in thing.__closure__ or ()]
    elif isinstance(thing, MethodType):
        inside = [thing.__self__]
    elif isinstance(thing, (list, tuple)):
        inside = thing
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        inside = list(vars(thing).values())
    for part in inside:
        yield from _modules(part, seen)
