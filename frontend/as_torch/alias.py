"""Modules under PyTorch's names that stand for modules of Braze."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from braze.as_torch.nearest import explain_missing

# PyTorch's version whose interface is followed; programs compare it before they use newer names.
VERSION = "2.0.0+braze"

# PyTorch's module -> Braze's, where they are not called the same.
RENAMED = {
    "torch.autograd.grad_mode": "braze.autograd.modes",
    "torch.nn.modules.activation": "braze.nn.modules.activations",
    "torch.nn.modules.batchnorm": "braze.nn.modules.normalization",
    "torch.nn.modules.container": "braze.nn.modules.containers",
    "torch.nn.modules.conv": "braze.nn.modules.convolution",
    "torch.nn.modules.loss": "braze.nn.modules.losses",
    "torch.nn.modules.rnn": "braze.nn.modules.recurrent",
}


def install() -> ModuleType:
    """Let `import torch` give Braze from now on, in this process.

    Returns:
        What `torch` is.

    Raises:
        RuntimeError: PyTorch itself was imported before.
    """
    present = sys.modules.get("torch")
    if isinstance(present, Alias):
        return present
    if present is not None and hasattr(present, "_C"):
        raise RuntimeError("PyTorch is imported already; Braze cannot take its name any more")
    import braze

    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    alias = sys.modules["torch"] = Alias("torch", braze)
    return alias


class Alias(ModuleType):
    """A module that has another module's names, and stores what is set there."""

    def __init__(self, name: str, target: ModuleType) -> None:
        super().__init__(name, target.__doc__)
        own = self.__dict__
        own["_target"] = target
        own["__path__"] = []  # its modules are found by name alone
        own["__spec__"] = importlib.machinery.ModuleSpec(name, _Loader(), is_package=True)
        own["__spec__"].submodule_search_locations = []
        if name == "torch":
            own["__version__"] = VERSION

    def __getattr__(self, name: str) -> Any:
        target, own = self.__dict__["_target"], self.__dict__["__name__"]
        if name.startswith("__") and name != "__all__":
            return getattr(target, name)
        try:
            value = getattr(target, name)
        except AttributeError:
            found = _module(f"{own}.{name}")
            if found is None:
                raise AttributeError(explain_missing(own, name)) from None
            value = found
        if isinstance(value, ModuleType) and value.__name__.startswith("braze."):
            return _alias(f"{own}.{name}", value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__") or isinstance(value, Alias):
            self.__dict__[name] = value
        else:
            setattr(self.__dict__["_target"], name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__:
            del self.__dict__[name]
        else:
            delattr(self.__dict__["_target"], name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Of a module that is a function too, as `torch.fft` was."""
        return self.__dict__["_target"](*args, **kwargs)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self.__dict__["_target"]), *self.__dict__})

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}: {self.__dict__['_target'].__name__}>"


def _alias(name: str, target: ModuleType) -> Alias:
    """The one alias of a name."""
    present = sys.modules.get(name)
    if isinstance(present, Alias):
        return present
    alias = sys.modules[name] = Alias(name, target)
    return alias


def _module(name: str) -> ModuleType | None:
    """Braze's module for a name of PyTorch; None if it has none."""
    own = RENAMED.get(name, "braze" + name.removeprefix("torch"))
    try:
        return importlib.import_module(own)
    except ModuleNotFoundError as error:
        if error.name is None or not own.startswith(error.name):
            raise
        return None


class _Loader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        found = _module(spec.name)
        assert found is not None
        return _alias(spec.name, found)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `torch.a.b` where Braze has `braze.a.b`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("torch."):
            return None
        if _module(fullname) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(), is_package=True)
