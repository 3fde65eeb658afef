"""Memory for a run's answers: what nobody else can see any more is used again, and what somebody else writes into is copied.

A CPU maps new memory for every large tensor, page by page, which takes as long as the forecast that is written there. A host may
keep an answer, or anything that shares its memory, for as long as it likes; such memory is left alone.
"""

import sys
import weakref
from collections import deque

import torch

MOST = 2  # storages that a run keeps: a multistep sampler holds one answer while it asks for the next
_use_count = getattr(torch._C, "_storage_Use_Count", None)


class Kept:
    """A storage that was handed out, and whether anything else refers to it.

    Tensors, views, detached and saved ones, numpy arrays and DLPack capsules all count as uses of the storage. Who asks a tensor
    for its storage is given this very Python object, whose references, weak ones among them, count too.
    """

    def __init__(self, storage):
        self.storage = storage

    def holders(self):
        return _use_count(self.storage._cdata), sys.getrefcount(self.storage), weakref.getweakrefcount(self.storage)

    def is_free(self, size):
        """Whether the storage has ``size`` bytes and is nobody else's; other processes may see what is shared."""
        return self.holders() == ALONE and self.storage.nbytes() == size and not self.storage.is_shared()


ALONE = _use_count and Kept(torch.UntypedStorage(0)).holders()


class Memory:
    """Tensors to write answers into. Several threads may ask at once: what one of them looks at, no other sees."""

    def __init__(self):
        self._kept = deque(maxlen=MOST)

    def empty(self, shape, dtype):
        """A tensor on the CPU with nothing in it, whose memory no other tensor has."""
        shape = torch.Size(shape)
        size = shape.numel() * dtype.itemsize
        for _ in range(len(self._kept)):
            try:
                kept = self._kept.popleft()
            except IndexError:  # another thread has it
                break
            if kept.is_free(size):
                found = torch.empty(0, dtype=dtype, device="cpu").set_(kept.storage, 0, shape)
                self._kept.append(kept)
                return found
            self._kept.append(kept)
        made = torch.empty(shape, dtype=dtype, device="cpu")
        if _use_count is not None and type(made) is torch.Tensor:
            self._kept.append(Kept(made.untyped_storage()))
        return made

    def clear(self):
        self._kept.clear()


def own(tensor, other):
    """``tensor``, which somebody keeps: a copy where it is ``other``, whose memory the denoiser may write into or use again.

    But not where gradients are recorded: then nothing is written in place.
    """
    return tensor.clone() if tensor is other and torch.is_tensor(tensor) and not tensor.requires_grad else tensor
