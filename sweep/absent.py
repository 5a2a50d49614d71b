"""Stand-ins for libraries that this environment cannot have.

The registry's torchvision and torchaudio are built for CUDA and do not import beside a CPU torch, yet most
multimodal models import them at the top of their files, for the image and audio processing that a prompt of text
never reaches. Here such an import succeeds; what was imported does nothing when it is used.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LIBRARIES = ("torchvision", "torchaudio", "timm", "open_clip")


class _AnyName(type):
    """A class made by it has every attribute, so that reading `InterpolationMode.BICUBIC` raises nothing."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent


class _Absent(metaclass=_AnyName):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, function: Any = None, *args: Any, **kwargs: Any) -> Any:
        return function  # as a decorator it changes nothing

    def __getattr__(self, name: str) -> Any:  # `timm.create_model(...).to(dtype)`
        return getattr(type(self), name)


class AbsentModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return "0.0.0"
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent


class _Finder:
    """A sys.meta_path entry; it comes last, so what is installed wins."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] not in LIBRARIES:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = AbsentModule(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def stand_in() -> None:
    """Let the missing ones of LIBRARIES be imported from now on, in this process."""
    if all(importlib.util.find_spec(name) for name in LIBRARIES):
        return
    sys.meta_path.append(_Finder())
