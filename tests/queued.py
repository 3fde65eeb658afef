"""A device with a queue, imitated on a CPU: its tensors say that they are elsewhere, and whoever reads one too early is told."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("lazy")  # what the tensors say, a device that needs no driver; their values are on the CPU
READS = ("_local_scalar_dense", "is_nonzero", "equal", "item", "nonzero")
PATIENCE = 2  # visits after which work may be taken for done


class Queued(torch.Tensor):
    """A tensor of the device: its ``value``, and the visit at which it was ``made``."""

    @staticmethod
    def __new__(cls, value, queue):
        return torch.Tensor._make_wrapper_subclass(cls, value.shape, strides=value.stride(), dtype=value.dtype, device=DEVICE)

    def __init__(self, value, queue):
        self.value, self.queue, self.made = value, queue, queue.visits

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} outside of the queue")

    def tolist(self):
        self.queue.read(self)
        return self.value.tolist()

    def __repr__(self):
        return f"Queued(made at visit {self.made})"


class Queue(TorchDispatchMode):
    """Within it, every operation on Queued tensors, or on its device, is queued. ``visits`` counts those that have begun."""

    def __init__(self):
        super().__init__()
        self.visits, self.ending = 0, False

    def put(self, tensor):
        """``tensor`` on the device."""
        return Queued(tensor, self)

    def get(self, tensor):
        """``tensor``, back from it."""
        return tensor.value

    def visit(self, left):
        """Another visit begins, of a step after which ``left`` steps follow. In the last one the run may read what it made."""
        self.visits, self.ending = self.visits + 1, left == 0

    def read(self, tensor):
        """AssertionError where ``tensor`` was made too recently to be there without waiting."""
        if not self.ending and self.visits - tensor.made < PATIENCE:
            raise AssertionError(f"visit {self.visits} waits for what was queued at visit {tensor.made}")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, wrapped = dict(kwargs or {}), {}

        def value(item):
            if not isinstance(item, Queued):
                return item
            wrapped[id(item.value)] = item
            return item.value

        target = kwargs.get("device")
        elsewhere = target is not None and torch.device(target) != DEVICE
        if target is not None:
            kwargs["device"] = "cpu"
        args, kwargs = tree_map(value, args), tree_map(value, kwargs)
        if func.overloadpacket.__name__ in READS or (wrapped and elsewhere and not kwargs.get("non_blocking")):
            for item in wrapped.values():
                self.read(item)
        result = func(*args, **kwargs)
        if elsewhere or not (wrapped or target is not None):
            return result
        return tree_map(lambda item: self._queued(item, wrapped), result)

    def _queued(self, item, wrapped):
        if not isinstance(item, torch.Tensor):
            return item
        same = wrapped[id(item)] if id(item) in wrapped else self.put(item)
        same.made = self.visits
        return same
