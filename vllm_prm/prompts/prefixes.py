"""Beginnings of prompts whose tokens are known: a search sends each beam's prefix again in every round.

Invariant: what is remembered of a text depends on that text alone, because it ends at a cut (cuts.py): its tokens are
the same whatever follows. Memory is bounded, and the beginnings used longest ago go first. Any thread may use it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any

from cachetools import LRUCache

_BYTES = 64 << 20  # for each tokenizer: the prefixes of about 8,000 beams of 1,000 tokens
_COUNT = 100  # bytes of a dictionary's slot with two integers
_EMPTY = 400  # bytes of an entry with nothing in it: its objects, and its place in the dictionary (measured)


@dataclass(frozen=True)
class Prefix:
    """text: up to a cut. token_ids: of this text. counts: tokens of text[:end], for those ends that were looked up."""

    text: str
    token_ids: array[int]
    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes, about."""
        ids_bytes = self.token_ids.itemsize * len(self.token_ids)
        return _EMPTY + sys.getsizeof(self.text) + ids_bytes + _COUNT * len(self.counts)


class Prefixes:
    """Those of one tokenizer, by text and by whatever else decides about its tokens."""

    def __init__(self, limit: int = _BYTES) -> None:
        self._known: LRUCache[tuple[Hashable, str], Prefix] = LRUCache(limit, lambda prefix: prefix.size)
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes that are in use, about."""
        return int(self._known.currsize)

    def longest(self, context: Hashable, texts: Sequence[str]) -> tuple[int, Prefix] | None:
        """The first of these texts that is known, by its index."""
        with self._lock:
            known = ((index, self._known.get((context, text))) for index, text in enumerate(texts))
            return next(((index, prefix) for index, prefix in known if prefix is not None), None)

    def keep(self, context: Hashable, text: str, token_ids: Sequence[int], counts: Mapping[int, int]) -> None:
        """context: what else than the text decides about the tokens. A text larger than the limit is not kept."""
        prefix = Prefix(text, array("I", token_ids), dict(counts))
        with self._lock:
            if prefix.size <= self._known.maxsize:
                self._known[context, text] = prefix


@lru_cache(maxsize=16)  # as many as `bind` keeps
def prefixes_of(tokenizer: Any) -> Prefixes:
    return Prefixes()
