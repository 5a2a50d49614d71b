"""Which token of a text ends at which of its characters.

Asked for seldom, and for few characters of a text, so each way does its work when it is first asked.

A byte-level tokenizer's tokens are as many bytes long as their pieces are characters, and together they are the text.
That gives the places without the tokenizers library's own offsets, whose making takes a fifth of its time (measured).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np


class Places(Protocol):
    def counts_before(self, characters: Sequence[int]) -> list[int | None]:
        """How many tokens text[:character] has, for each, if one ends just there and another begins there; else None.

        characters: ascending. Those below 0, which are of no interest, have None.
        """
        ...


class OffsetPlaces:
    """By the tokenizers library's own offsets."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def counts_before(self, characters: Sequence[int]) -> list[int | None]:
        length = len(self._encoding)
        if not length or self._encoding.token_to_sequence(length - 1) is None:
            # The tokenizer adds special tokens at the end, so the beginning of a text ends otherwise.
            return [None] * len(characters)
        return [None if character < 0 else self._count_before(character) for character in characters]

    def _count_before(self, character: int) -> int | None:
        following = self._encoding.char_to_token(character)
        if not following or self._encoding.token_to_chars(following)[0] != character:
            return None
        before = self._encoding.token_to_chars(following - 1)
        return int(following) if before is not None and before[1] == character else None


class BytePlaces:
    """By the lengths of a byte-level tokenizer's tokens.

    text: as the tokenizer was given it, with nothing that it normalizes. token_ids: what it made of that. lengths:
    `byte_lengths` of the tokenizer. added: 1 for each token that the tokenizer added, which is no part of the text, and
    0 for the others; None if it adds none.
    """

    def __init__(self, text: str, token_ids: list[int], lengths: np.ndarray, added: list[int] | None = None) -> None:
        self._text = text
        self._token_ids = token_ids
        self._lengths = lengths
        self._added = added
        self._ends: np.ndarray | None = None

    def counts_before(self, characters: Sequence[int]) -> list[int | None]:
        if self._ends is None:
            self._ends = self._token_ends()
        if not len(self._ends):
            return [None] * len(characters)
        offsets = self._offsets(characters)
        indices = self._ends.searchsorted(offsets)
        found, last = self._ends.take(indices, mode="clip").tolist(), len(self._ends) - 1
        return [
            index + 1 if end == offset and index < last else None
            for index, offset, end in zip(indices.tolist(), offsets, found, strict=True)
        ]

    def _offsets(self, characters: Sequence[int]) -> Sequence[int]:
        """Where these characters stand in the text's bytes."""
        if self._text.isascii():
            return characters
        offsets, offset, before = [], 0, 0
        for character in characters:
            if character >= 0:
                offset += len(self._text[before:character].encode())
                before = character
            offsets.append(offset if character >= 0 else -1)
        return offsets

    def _token_ends(self) -> np.ndarray:
        """Where each token ends, in bytes; nothing if added tokens end the text, or the tokens are not the text."""
        lengths = self._lengths[np.frombuffer(array("I", self._token_ids), np.uint32)]
        if self._added:
            if self._added[-1]:
                return lengths[:0]
            lengths[np.frombuffer(bytes(self._added), bool)] = 0
        ends = lengths.cumsum(dtype=np.int64)
        return ends if len(ends) and ends[-1] == len(self._text.encode()) else ends[:0]


@lru_cache(maxsize=16)  # as many as `bind` keeps
def byte_lengths(tokenizer: Any) -> np.ndarray:
    """uint16 [vocabulary]: bytes of each token of a byte-level tokenizer, whose pieces spell a byte as a character."""
    backend = tokenizer.backend_tokenizer
    lengths = {id_: len(piece) for piece, id_ in backend.get_vocab(with_added_tokens=False).items()}
    lengths |= {id_: len(token.content.encode()) for id_, token in backend.get_added_tokens_decoder().items()}
    table = np.zeros(max(lengths) + 1, dtype=np.uint16)  # no piece is as long as 65,536 bytes
    table[list(lengths)] = list(lengths.values())
    return table
