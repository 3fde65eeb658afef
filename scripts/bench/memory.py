"""Peak memory of a run, each in a process of its own: what a process once had for itself, it does not give back for certain.

``in_fresh_process("module:function", ...)`` calls the function there with arguments that JSON knows, and gives what it returned.
"""

import gc
import importlib
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

MIB = 2**20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_HIGH_WATER = "5"  # of proc(5)


def in_fresh_process(target, **arguments):
    """What ``target``, a "module:function", returns in a new Python that finds the modules of this one."""
    paths = [str(Path(path).resolve()) for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "bench.memory", target]
    done = subprocess.run(command, input=json.dumps(arguments), capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"{target}: its process ended with {done.returncode} ({last}); call it here to see why")
    return json.loads(done.stdout.strip().splitlines()[-1])


@contextmanager
def high_water(device="cpu"):
    """A context that gives a dictionary, which then holds ``before_MiB``, resident as it began, and ``peak_MiB`` inside of it.

    On CUDA these are what is allocated on ``device``. Where there is no /proc, ``peak_MiB`` is that of the whole process, which
    began with building the model.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        found = {"before_MiB": torch.cuda.memory_allocated(device) / MIB}
        yield found
        found["peak_MiB"] = torch.cuda.max_memory_allocated(device) / MIB
        return
    with suppress(OSError):
        CLEAR.write_text(RESET_HIGH_WATER)
    found = {"before_MiB": _resident("VmRSS") / MIB}
    yield found
    found["peak_MiB"] = _resident("VmHWM") / MIB


def _resident(name):
    """Bytes that /proc/self/status gives for ``name``; the process's peak where that is not to be had."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(target):
    module, function = target.split(":")
    print(f"\n{json.dumps(getattr(importlib.import_module(module), function)(**json.load(sys.stdin)))}")


if __name__ == "__main__":
    main(sys.argv[1])
