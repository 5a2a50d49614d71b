"""The tokens that a recipe names: what ends a step, what is read there, and a text to know the tokenizer by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")  # a misspelt field is a mistake, not an option
Id = Annotated[int, Field(strict=True, ge=0)]
Text = Annotated[str, Field(strict=True)]


def piece_alone(value: Any) -> Any:
    return {"piece": value} if isinstance(value, str) else value


def tags(value: Any) -> Any:
    """One tag, or a list of alternatives, as a tuple of tags."""
    return tuple(map(piece_alone, value)) if isinstance(value, list | tuple) else (piece_alone(value),)


def _words(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def labelled(value: Any) -> Any:
    """{"good": {...}} as the list of tokens that it stands for."""
    if not isinstance(value, Mapping):
        return value
    return tuple(
        {"label": label, **token} if isinstance(token := piece_alone(entry), Mapping) else entry
        for label, entry in value.items()
    )


@dataclass(frozen=True, config=STRICT)
class StepTag:
    """What ends a step: one token, or a sequence of tokens, by pieces, by ids, or by both; or by their text.

    id beside a piece: the id it must have (None: whatever the tokenizer says). text: instead of both.
    """

    piece: Text | tuple[Text, ...] | None = None
    id: Id | tuple[Id, ...] | None = None
    text: Text | None = None

    @property
    def spelled(self) -> str:
        """For messages."""
        return self.text or "".join(piece or "?" for piece in self.pieces)

    @property
    def pieces(self) -> tuple[str | None, ...]:
        """Per token of the sequence; None where only the id is known."""
        if self.piece is None:
            return (None,) * len(self.ids)
        return (self.piece,) if isinstance(self.piece, str) else self.piece

    @property
    def ids(self) -> tuple[int | None, ...]:
        """Per token of the sequence; None where only the piece is known."""
        if self.id is None:
            return (None,) * (len(self.piece) if isinstance(self.piece, tuple) else 1)
        return (self.id,) if isinstance(self.id, int) else self.id


@dataclass(frozen=True, config=STRICT)
class ScoringToken:
    """One column that is read for every step: a vocabulary entry, or a class of the model's own head.

    label: what it stands for ("good", "bad", ...), for messages and for overriding it in JSON.
    weight: how much of its probability counts towards the step score, in [-1, 1]; below 0 it counts against it.
    words: instead of piece and id, where the model is asked (prompts of kind "judge"): texts, of which the first one
        counts that is a single token where the model's answer begins.
    """

    label: Text
    weight: Annotated[float, Field(strict=True, ge=-1, le=1)]
    piece: Text | None = None
    id: Id | None = None
    words: Annotated[tuple[Text, ...], BeforeValidator(_words)] = ()

    @property
    def spelled(self) -> str:
        """For messages."""
        return " or ".join(map(repr, self.words)) or self.piece or str(self.id)


@dataclass(frozen=True, config=STRICT)
class Probe:
    """A text and the token ids, BOS and the like included, that the tokenizer used in training makes of it."""

    text: Text
    ids: tuple[Id, ...]
