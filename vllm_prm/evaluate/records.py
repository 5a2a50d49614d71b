"""One object of a benchmark file, and its fields, checked.

Knows no benchmark: a format names the fields that it wants. Every RequestError raised here begins with the file and
line (or list entry) that the object stands at.

A step without text is let through, unlike in `inputs.checked_steps`: scoring refuses that one solution, which then
counts as unscored, and the others of the file are still measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from vllm_prm.errors import RequestError
from vllm_prm.evaluate.pictures import question_with_images
from vllm_prm.inputs import checked_text, shown
from vllm_prm.questions import Question

Value = TypeVar("Value")


@dataclass(frozen=True)
class Record:
    """One object of a benchmark file. place: its file and line, and its field if it lies inside another object.

    images: the folder below which the images lie that it names.

    The methods return the field of that name, or raise RequestError if there is none or it holds something else.
    """

    fields: Mapping[str, Any]
    place: str
    images: Path = Path()

    def question(self, name: str) -> Question:
        """A question's text, or its content parts, with the images that the fields `image` and `images` name."""
        if not isinstance(self.fields.get(name), list):
            self.text(name)
        image, images = (self.fields.get(field) for field in ("image", "images"))
        if image is not None and images is not None:
            raise self.unexpected("images", images, "one of the fields image and images")
        try:
            return question_with_images(self.fields[name], images if image is None else image, self.images, name)
        except RequestError as error:
            raise RequestError(f"{self.place}: {error}") from error

    def text(self, name: str) -> str:
        self._value(name, str, "text")
        return self._checked_text(name, self.fields[name])

    def optional_text(self, name: str) -> str | None:
        """None if there is no such field, or it is null."""
        return None if self.fields.get(name) is None else self.text(name)

    def optional_integer(self, name: str) -> int | None:
        """None if there is no such field, or it is null."""
        return None if self.fields.get(name) is None else self.integer(name)

    def identifier(self, name: str) -> str:
        """The field's value as text, whatever it is; without such a field the record's place, which no other has."""
        return str(self.fields.get(name, self.place))

    def integer(self, name: str) -> int:
        return self._value(name, int, "a whole number")

    def optional_boolean(self, name: str) -> bool | None:
        """None if there is no such field, or it is null."""
        return None if self.fields.get(name) is None else self._value(name, bool, "true or false")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, not empty."""
        texts = self._list(name, str, "text", "texts")
        if not texts:
            raise self.unexpected(name, texts, "one text or more")
        return tuple(self._checked_text(f"{name}[{i}]", text) for i, text in enumerate(texts))

    def integers(self, name: str) -> tuple[int, ...]:
        return tuple(self._list(name, int, "a whole number", "whole numbers"))

    def values(self, name: str) -> tuple[Any, ...]:
        """A list of anything, for the format to check."""
        return tuple(self._value(name, list, "a list"))

    def optional_texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, which may be empty; so it is if there is no such field, or it is null."""
        return () if self.fields.get(name) is None else tuple(self._list(name, str, "text", "texts"))

    def record(self, name: str) -> Record:
        """An object."""
        return replace(self, fields=self._value(name, dict, "an object"), place=f"{self.place}, {name}")

    def records(self, name: str) -> tuple[Record, ...]:
        """A list of objects, not empty."""
        objects = self._records(name)
        if not objects:
            raise self.unexpected(name, [], "one object or more")
        return objects

    def optional_records(self, name: str) -> tuple[Record, ...]:
        """A list of objects, which may be empty; so it is if there is no such field, or it is null."""
        return () if self.fields.get(name) is None else self._records(name)

    def unexpected(self, name: str, value: Any, expected: str) -> RequestError:
        """The error for a field that holds another value than expected."""
        return RequestError(f"{self.place}: {name} is {shown(value)}; expected {expected}")

    def _records(self, name: str) -> tuple[Record, ...]:
        objects = self._list(name, dict, "an object", "objects")
        return tuple(replace(self, fields=one, place=f"{self.place}, {name}[{i}]") for i, one in enumerate(objects))

    def _value(self, name: str, kind: type[Value], expected: str) -> Value:
        if name not in self.fields:
            raise RequestError(f"{self.place}: no field {name!r}; expected {expected} there")
        return self._checked(name, self.fields[name], kind, expected)

    def _list(self, name: str, kind: type[Value], expected: str, expected_plural: str) -> list[Value]:
        values = self._value(name, list, f"a list of {expected_plural}")
        return [self._checked(f"{name}[{i}]", value, kind, expected) for i, value in enumerate(values)]

    def _checked(self, name: str, value: Any, kind: type[Value], expected: str) -> Value:
        is_other_boolean = isinstance(value, bool) and kind is not bool  # in Python a bool is an int too
        if is_other_boolean or not isinstance(value, kind):
            raise self.unexpected(name, value, expected)
        return value

    def _checked_text(self, name: str, text: str) -> str:
        return checked_text(text, f"{self.place}: {name}")
