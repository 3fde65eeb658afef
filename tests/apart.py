"""A device beside the CPU, imitated on one: whoever mixes its tensors with the CPU's is told, as CUDA would."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("lazy")  # what its tensors say; their values are on the CPU
MAY_MIX = ("_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_")  # copies, and indices, as CUDA allows


class There(torch.Tensor):
    """A tensor of the device, with its ``value``."""

    @staticmethod
    def __new__(cls, value):
        return torch.Tensor._make_wrapper_subclass(cls, value.shape, strides=value.stride(), dtype=value.dtype, device=DEVICE)

    def __init__(self, value):
        self.value = value

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} outside of the device")

    def __repr__(self):
        return "There"


class Apart(TorchDispatchMode):
    """Within it, what is made of tensors of the device is there, too. AssertionError where a CPU tensor is mixed with them.

    Single numbers (0-d) may be: CUDA takes them along.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, known, name = dict(kwargs or {}), {}, func.overloadpacket.__name__
        tensors = [item for item in tree_iter((args, kwargs)) if isinstance(item, torch.Tensor)]
        there = [item for item in tensors if isinstance(item, There)]
        if there and len(there) < len(tensors) and name not in MAY_MIX:
            here = [tuple(item.shape) for item in tensors if not isinstance(item, There) and item.ndim]
            assert not here, f"{name}: tensors {here} of the CPU among those of the device"
        target = kwargs.get("device")
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        goes = torch.device(target) == DEVICE if target is not None else bool(there)
        if name == "copy_" or (name in MAY_MIX and target is None):
            goes = isinstance(args[0], There)
        for item in there:
            known[id(item.value)] = item
        value = lambda item: item.value if isinstance(item, There) else item  # noqa: E731
        result = func(*tree_map(value, args), **tree_map(value, kwargs))
        if not goes or name in ("_local_scalar_dense", "is_nonzero", "equal"):
            return result
        return tree_map(lambda item: known[id(item)] if id(item) in known else _there(item), result)


def _there(item):
    return There(item) if isinstance(item, torch.Tensor) else item
