"""Which token of a text ends at which of its characters.

Asked for seldom, and for few characters of a text, so each way does its work when it is first asked.

A byte-level tokenizer's tokens are as many bytes long as their pieces are characters, and together they are the text.
That gives the places without the tokenizers library's own offsets, whose making takes a fifth of its time (measured).
"""

from __future__ import annotations

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

    text: as the tokenizer was given it, with nothing that it normalizes. lengths: `byte_lengths` of the tokenizer.
    special: whether the tokenizer added special tokens, which are no part of the text.
    """

    def __init__(self, text: str, encoding: Any, lengths: np.ndarray, special: bool) -> None:
        self._text = text
        self._encoding = encoding
        self._lengths = lengths
        self._special = special

    def count_before(self, character: int) -> int | None:
        end = character if self._text.isascii() else len(self._text[:character].encode())
        index = bisect_left(self._ends, end)
        return index + 1 if index < len(self._ends) - 1 and self._ends[index] == end else None

    @cached_property
    def _ends(self) -> list[int]:
        """Where each token ends, in bytes; nothing if special tokens end the text, or the tokens are not the text."""
        lengths = self._lengths[np.array(self._encoding.ids, dtype=np.int64)]
        if self._special:
            added = np.array(self._encoding.special_tokens_mask, dtype=bool)
            if added.any():
                if added[-1]:
                    return []
                lengths = np.where(added, 0, lengths)
        ends: list[int] = lengths.cumsum().tolist()
        return ends if ends and ends[-1] == len(self._text.encode()) else []


@lru_cache(maxsize=16)  # as many as `bind` keeps
def byte_lengths(tokenizer: Any) -> np.ndarray:
    """int64 [vocabulary]: bytes of each token of a byte-level tokenizer, whose pieces spell a byte as a character."""
    backend = tokenizer.backend_tokenizer
    lengths = {id_: len(piece) for piece, id_ in backend.get_vocab(with_added_tokens=False).items()}
    lengths |= {id_: len(token.content.encode()) for id_, token in backend.get_added_tokens_decoder().items()}
    table = np.zeros(max(lengths) + 1, dtype=np.int64)
    table[list(lengths)] = list(lengths.values())
    return table
