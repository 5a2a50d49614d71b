"""A prompt as reads: one request per position, for a model that generates text.

Such a model says, after a prompt, how likely each next token is. So it is asked with the prompt up to the position that
is read, which gives there what a pooling engine reads in one pass. A step that was read once is remembered: a search
then asks for the steps that are new, and nothing is read twice.

Invariant: what is remembered is as fresh as vLLM's prefix cache. Whoever owns a memory forgets it when the model's
weights change.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from vllm_prm.errors import PRMError
from vllm_prm.prompts.drafts import Prompt

_KEY_BYTES = 16  # of a digest: among 2**64 prefixes two would be alike by chance
_ENTRY_BYTES = 350  # of an entry beside its numbers: two dicts' slots, key, list node and array object, as measured
DEFAULT_BYTES = 64 << 20  # some 180,000 steps: 64 beams of 40 steps for each of 70 questions


@dataclass(frozen=True)
class Read:
    """token_ids: the prompt up to and including the position that is read. key: of these tokens and of the model."""

    token_ids: Sequence[int]
    key: bytes


class ReadMemory:
    """Logits of the reads that were made last, up to a number of bytes. Threads may share it."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._rows: LRUCache[bytes, np.ndarray] = LRUCache(max_bytes, lambda row: row.nbytes + _ENTRY_BYTES)
        self._lock = threading.Lock()
        self.age = 0  # how often it was forgotten: what was asked before is not remembered after

    def rows(self, reads: Sequence[Read]) -> dict[bytes, np.ndarray]:
        """float32 [scoring tokens] of each of the reads that is remembered, by its key."""
        with self._lock:
            return {read.key: row for read in reads if (row := self._rows.get(read.key)) is not None}

    def remember(self, rows: Mapping[bytes, np.ndarray], age: int) -> None:
        """Keep rows that were asked for when the memory had this age."""
        with self._lock:
            if age == self.age:
                for key, row in rows.items():
                    if row.nbytes + _ENTRY_BYTES <= self._rows.maxsize:
                        self._rows[key] = row

    def forget(self) -> None:
        """Drop everything, because the model that was asked is another one now."""
        with self._lock:
            self._rows.clear()
            self.age += 1


def reads_of(prompt: Prompt, model: str) -> list[Read]:
    """One read per position of the prompt, shortest first, so that each finds the one before it in a prefix cache.

    model: which model or adapter is asked; others have other keys.
    """
    digest = hashlib.blake2b(model.encode(), digest_size=_KEY_BYTES)
    tokens = np.asarray(prompt.token_ids, dtype=np.int64)
    reads, start = [], 0
    for position in prompt.positions:
        digest.update(tokens[start : position + 1].tobytes())
        start = position + 1
        reads.append(Read(prompt.token_ids[:start], digest.copy().digest()))
    return reads


class PromptReads:
    """A prompt whose steps are read one by one: some are remembered, `missing` are to be asked.

    missing: shortest first; empty if all are known.
    """

    def __init__(self, prompt: Prompt, model: str, memory: ReadMemory) -> None:
        self._memory, self._age = memory, memory.age
        self._reads = reads_of(prompt, model)
        self._rows = memory.rows(self._reads)
        self._num_computed = 0
        self._error: PRMError | None = None
        self.missing = [read for read in self._reads if read.key not in self._rows]

    def take(self, read: Read, row: np.ndarray, num_computed_tokens: int) -> None:
        """The answer to one of the missing reads: float32 [scoring tokens], and how many of its tokens were computed.

        They may be the logits or the log-probabilities of the scoring tokens, which differ by a constant.
        """
        self._rows[read.key] = row
        self._num_computed += num_computed_tokens

    def fail(self, error: PRMError) -> None:
        """One of the missing reads has no answer: `result` raises this."""
        self._error = error

    def result(self) -> tuple[np.ndarray, int]:
        """(float32 [positions, scoring tokens], tokens that were not computed), once all that was missing is taken.

        Raises the error of a read that failed.
        """
        if self._error is not None:
            raise self._error
        self._memory.remember({read.key: self._rows[read.key] for read in self.missing}, self._age)
        length = len(self._reads[-1].token_ids)
        return np.stack([self._rows[read.key] for read in self._reads]), max(0, length - self._num_computed)
