"""Solvers that are trained on where a run ends, as what they are: parameters, a walk with them, and a file."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file


@dataclass
class Trained:
    """A solver of ``budget`` guided calls as parameters, for runs from sigma ``high``; ``low`` is where it ends, if not at 0.

    A subclass says in ``groups`` which tensors a name in ``train`` frees, and in ``walk`` what they mean. ``about`` says how it
    was trained: ``gradients``, guided calls times pictures (``calls``), ``seconds``, and the loss ``before`` and ``after``.
    """

    budget: int
    low: float
    high: float
    tensors: dict = field(repr=False)
    about: dict = field(default_factory=dict)
    groups: ClassVar[dict] = {}

    def asks(self, workload):
        """What ``walk`` takes as ``denoise``."""
        return workload.denoise

    def walk(self, denoise, noise):
        """x at the end of a run that begins at ``noise`` of unit variance."""
        raise NotImplementedError

    def save(self, path):
        known = {"kind": type(self).__name__, "budget": self.budget, "low": self.low, "high": self.high, **self.about}
        save_file(
            {name: tensor.contiguous() for name, tensor in self.tensors.items()}, path, {k: str(v) for k, v in known.items()}
        )

    @classmethod
    def load(cls, path):
        with safe_open(path, "pt") as file:
            about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (kind := about.pop("kind", None)) != cls.__name__:
            raise ValueError(f"{str(path)!r} holds a {kind}, not a {cls.__name__}; load it with the class that saved it")
        return cls(int(about.pop("budget")), float(about.pop("low")), float(about.pop("high")), tensors, about)


def solve(trained):
    """A solver ``solve(denoise, noise, sigmas)``. It has its own nodes: of ``sigmas`` only the first one is looked at."""

    @torch.no_grad()
    def solved(denoise, noise, sigmas):
        if not math.isclose(float(sigmas[0]), trained.high, rel_tol=1e-4):
            raise ValueError(f"sigma {float(sigmas[0]):g}: it was trained from {trained.high:g} on; train it for this schedule")
        return trained.walk(denoise, noise)

    return solved


def mixed(weights, tensors):
    """``sum_j weights[j] * tensors[j]`` with a gradient for both; the sum is of ``tensors``' dtype and on their device.

    ``weights`` are float64 on the CPU, as all that is trained is.
    """
    return sum(weight.to(tensor) * tensor for weight, tensor in zip(weights, tensors, strict=True))
