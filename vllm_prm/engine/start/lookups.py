"""What the installed vLLM has: modules, functions and their parameters, classes and their fields, texts of its source.

Looked up, not run. Knows nothing of what we rely on (seams.py does). Each look-up yields a sentence for what is not as
expected: what moved, and which file of ours must follow.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator, Sequence, Set
from typing import Any

from vllm_prm.engine.start.plugin import WRAPPED


def takes(module: str, name: str, expected: Sequence[str], ours: str, more: bool = False) -> Iterator[str]:
    """Unless the function takes these parameters. more: others may follow them."""
    target = find(module, name)
    if target is None:
        yield f"{module}.{name} is gone: see {ours}"
        return
    parameters = list(inspect.signature(original(target)).parameters)
    if (parameters[: len(expected)] if more else parameters) != list(expected):
        yield f"{module}.{name} takes {parameters}, expected {list(expected)}: see {ours}"


def has(module: str, name: str, attributes: Sequence[str], ours: str) -> Iterator[str]:
    """Unless the class is there and has these fields, methods or properties."""
    target = find(module, name)
    if target is None:
        yield f"{module}.{name} is gone: see {ours}"
        return
    fields = {field.name for field in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else set()
    for attribute in attributes:
        if attribute not in fields and not hasattr(target, attribute):
            yield f"{module}.{name} lost {attribute}: see {ours}"


def abstract(module: str, name: str, expected: Set[str], ours: str) -> Iterator[str]:
    """Unless these are the methods that a subclass has to have."""
    target = find(module, name)
    if target is None:
        yield f"{module}.{name} is gone: see {ours}"
        return
    methods: Set[str] = getattr(target, "__abstractmethods__", frozenset())
    if methods != expected:
        yield f"vLLM's {name} has other abstract methods, {sorted(methods)}, expected {sorted(expected)}: see {ours}"


def says(module: str, name: str | None, texts: Sequence[str], otherwise: str) -> Iterator[str]:
    """Unless the source of a function (None: of the module) has these texts, first met in this order."""
    target = find(module, name)
    source = "" if target is None else inspect.getsource(original(target))
    places = [source.find(text) for text in texts]
    if -1 in places or places != sorted(places):
        yield otherwise


def find(module: str, name: str | None) -> Any:
    """The named thing, by dots; None if it is not there, or cannot be imported."""
    target = _module(module)
    for part in name.split(".") if name else ():
        target = getattr(target, part, None)
    if target is None and name is not None and "." not in name:
        return _module(f"{module}.{name}")  # `from package import module`, not loaded yet
    return target


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001 - a module of a vLLM that does not fit its torch raises anything
        return None


def original(target: Any) -> Any:
    """As vLLM wrote it, where our wrapper is in its place."""
    return getattr(target, WRAPPED, target)
