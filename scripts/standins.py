"""Empty stand-ins for packages that a host imports and never calls while it trains or samples here."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from contextlib import contextmanager, suppress

NEVER_CALLED = ("k_diffusion", "kornia", "kornia_rs", "open_clip", "requests", "torchvision", "transformers")
LOOKS_FOR_THEM = ("torchmetrics", "pytorch_lightning")  # must have looked before a stand-in is there to be found


class _StandIn(types.ModuleType):
    """An empty module: every name in it is an empty class, good for being imported and for nothing else."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for each of ``names`` and all in it. First on the path: an installed one may lack what it needs itself."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        known = any(f"{name}.".startswith(f"{stood_in}.") for stood_in in self.names)
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        pass


@contextmanager
def stand_ins(names=NEVER_CALLED):
    """A context in which ``names`` import as empty modules; they are gone again afterwards."""
    for name in LOOKS_FOR_THEM:
        with suppress(ImportError):
            importlib.import_module(name)
    finder = _StandIns(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
            del sys.modules[name]
