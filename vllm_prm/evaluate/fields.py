"""Reading the fields of one line of a benchmark file, with messages that name the line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_prm.errors import RequestError

Scores = tuple[float, ...] | None  # the step scores of one solution; None: it could not be scored


@dataclass(frozen=True)
class Line:
    """One object of a benchmark file. where: file and line, for messages."""

    raw: Mapping[str, Any]
    where: str

    def text(self, name: str) -> str:
        return self._of(name, str, "a string")

    def integer(self, name: str) -> int:
        value = self._of(name, int, "a whole number")
        if isinstance(value, bool):
            raise self.fault(name, value, "a whole number")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, not empty."""
        value = self._of(name, list, "a list of strings")
        for i, text in enumerate(value):
            if not isinstance(text, str):
                raise self.fault(f"{name}[{i}]", text, "a string")
        if not value:
            raise self.fault(name, value, "one string or more")
        return tuple(value)

    def integers(self, name: str) -> tuple[int, ...]:
        value = self._of(name, list, "a list of whole numbers")
        for i, number in enumerate(value):
            if isinstance(number, bool) or not isinstance(number, int):
                raise self.fault(f"{name}[{i}]", number, "a whole number")
        return tuple(value)

    def parts(self, name: str) -> tuple[Line, ...]:
        """A list of objects, not empty."""
        value = self._of(name, list, "a list of objects")
        for i, part in enumerate(value):
            if not isinstance(part, Mapping):
                raise self.fault(f"{name}[{i}]", part, "an object")
        if not value:
            raise self.fault(name, value, "one object or more")
        return tuple(Line(part, f"{self.where}, {name}[{i}]") for i, part in enumerate(value))

    def fault(self, name: str, found: Any, expected: str) -> RequestError:
        shown = repr(found)
        return RequestError(
            f"{self.where}: {name} is {shown[:77] + '...' if len(shown) > 80 else shown}; expected {expected}"
        )

    def _of(self, name: str, kind: type, expected: str) -> Any:
        if name not in self.raw:
            raise RequestError(f"{self.where}: no field {name!r}; expected {expected} there")
        if not isinstance(self.raw[name], kind):
            raise self.fault(name, self.raw[name], expected)
        return self.raw[name]


def check_scores(scores: Scores, steps: int, what: str) -> Scores:
    """The scores, if there is one for each step. Raises RequestError otherwise."""
    if scores is not None and len(scores) != steps:
        raise RequestError(f"{what} has {steps} steps and {len(scores)} scores; expected one score for each step")
    return scores
