"""Beginnings of prompts whose tokens are known: a search sends each beam's prefix again in every round.

Invariant: what is remembered of a text depends on that text alone, because it ends at a cut (cuts.py): its tokens are
the same whatever follows. Memory is bounded, and the beginnings used longest ago go first. Any thread may use it.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any

_BYTES = 64 << 20  # for each tokenizer: the prefixes of about 8,000 beams of 1,000 tokens
_EMPTY = 400  # bytes of an entry with nothing in it: its objects, and its place in the dictionary (measured)


@dataclass(frozen=True)
class Prefix:
    """token_ids: of a text up to a cut. counts: tokens of text[:end], for those ends in it that were looked up."""

    token_ids: array[int]
    counts: Mapping[int, int] = field(default_factory=dict)


class Prefixes:
    """Those of one tokenizer, by text and by whatever else decides about its tokens."""

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._known: OrderedDict[tuple[Hashable, str], Prefix] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes that are in use, about."""
        return self._size

    def longest(self, context: Hashable, texts: Sequence[str]) -> tuple[int, Prefix] | None:
        """The first of these texts that is known, by its index."""
        with self._lock:
            for index, text in enumerate(texts):
                if (prefix := self._known.get((context, text))) is not None:
                    self._known.move_to_end((context, text))
                    return index, prefix
        return None

    def keep(self, context: Hashable, text: str, token_ids: Sequence[int], counts: Mapping[int, int]) -> None:
        """context: what else than the text decides about the tokens."""
        prefix = Prefix(array("I", token_ids), dict(counts))
        key = (context, text)
        with self._lock:
            if (earlier := self._known.pop(key, None)) is not None:
                self._size -= _size(text, earlier)
            self._known[key] = prefix
            self._size += _size(text, prefix)
            while self._size > self._limit:
                (_, oldest_text), oldest = self._known.popitem(last=False)
                self._size -= _size(oldest_text, oldest)


@lru_cache(maxsize=16)  # as many as `bind` keeps
def prefixes_of(tokenizer: Any) -> Prefixes:
    return Prefixes()


def _size(text: str, prefix: Prefix) -> int:
    return _EMPTY + sys.getsizeof(text) + prefix.token_ids.itemsize * len(prefix.token_ids) + 100 * len(prefix.counts)
