"""Which token of a text ends at which of its characters.

Asked for seldom, and for few characters of a text, so each way does its work when it is first asked.

A byte-level tokenizer's tokens are as many bytes long as their pieces are characters, and together they are the text.
That gives the places without the tokenizers library's own offsets, whose making takes a fifth of its time (measured).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np


class Places(Protocol):
    def count_before(self, character: int) -> int | None:
        """How many tokens text[:character] has, if one ends just there and another begins there; None if not known."""
        ...


class OffsetPlaces:
    """By the tokenizers library's own offsets."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def count_before(self, character: int) -> int | None:
        following = self._encoding.char_to_token(character)
        if not following or self._encoding.token_to_chars(following)[0] != character:
            return None
        before = self._encoding.token_to_chars(following - 1)
        if before is None or before[1] != character:
            return None
        if self._encoding.token_to_sequence(len(self._encoding) - 1) is None:
            return None  # the tokenizer adds special tokens at the end, so the beginning of a text ends otherwise
        return int(following)


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

    def count_before(self, character: int) -> int | None:
        end = character if self._text.isascii() else len(self._text[:character].encode())
        index = bisect_left(self._ends, end)
        return index + 1 if index < len(self._ends) - 1 and self._ends[index] == end else None

    @cached_property
    def _ends(self) -> list[int]:
        """Where each token ends, in bytes; nothing if added tokens end the text, or the tokens are not the text."""
        lengths = self._lengths[np.frombuffer(array("I", self._token_ids), np.uint32)]
        if self._added is not None:
            if self._added[-1]:
                return []
            lengths[np.array(self._added, dtype=bool)] = 0
        ends: list[int] = lengths.cumsum(dtype=np.int64).tolist()
        return ends if ends and ends[-1] == len(self._text.encode()) else []


@lru_cache(maxsize=16)  # as many as `bind` keeps
def byte_lengths(tokenizer: Any) -> np.ndarray:
    """uint16 [vocabulary]: bytes of each token of a byte-level tokenizer, whose pieces spell a byte as a character."""
    backend = tokenizer.backend_tokenizer
    lengths = {id_: len(piece) for piece, id_ in backend.get_vocab(with_added_tokens=False).items()}
    lengths |= {id_: len(token.content.encode()) for id_, token in backend.get_added_tokens_decoder().items()}
    table = np.zeros(max(lengths) + 1, dtype=np.uint16)  # no piece is as long as 65,536 bytes
    table[list(lengths)] = list(lengths.values())
    return table
