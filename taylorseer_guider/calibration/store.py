"""Where recordings wait: in the computer's memory, or in a folder when they are too many or should outlive the program."""

import os
from pathlib import Path

import torch


class Store:
    """Keeps tensors, and lists and dictionaries of them, on the CPU or, with a ``folder``, in one file each."""

    def __init__(self, folder=None):
        self.folder = None if folder is None else Path(folder)
        self.items = {}
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key):
        return self._file(key).exists() if self.folder else key in self.items

    def put(self, key, item):
        """Keep ``item`` under the name ``key``, whole or not at all."""
        item = _moved(item, "cpu")
        if not self.folder:
            self.items[key] = item
            return
        draft = self._file(key).with_suffix(f".{os.getpid()}")
        torch.save(item, draft)
        os.replace(draft, self._file(key))

    def get(self, key, device):
        """What was kept under ``key``, on ``device``."""
        item = torch.load(self._file(key), weights_only=True) if self.folder else self.items[key]
        return _moved(item, device)

    def _file(self, key):
        return self.folder / f"{key}.pt"


def _moved(item, device):
    if isinstance(item, torch.Tensor):
        return item.detach().to(device)
    if isinstance(item, dict):
        return {key: _moved(value, device) for key, value in item.items()}
    return [_moved(value, device) for value in item] if isinstance(item, list) else item
