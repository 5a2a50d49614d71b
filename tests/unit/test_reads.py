"""One read per step: the prompt up to there, remembered, never read twice, forgotten when the model changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vllm_prm.prompts import Prompt
from vllm_prm.prompts.reads import PromptReads, ReadMemory, reads_of

PROMPT = Prompt((1, 5, 9, 5, 9, 7), (2, 4))


def row(*values):
    return np.array(values, dtype=np.float32)


def test_a_read_is_the_prompt_up_to_its_position():
    assert [list(read.token_ids) for read in reads_of(PROMPT, "m")] == [[1, 5, 9], [1, 5, 9, 5, 9]]


def test_the_same_beginning_has_the_same_key_whatever_follows():
    longer = Prompt((1, 5, 9, 5, 9, 8, 8), (1, 2, 4, 6))
    first, second = reads_of(PROMPT, "m")
    keys = [read.key for read in reads_of(longer, "m")]
    assert keys[1:3] == [first.key, second.key]
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    "other",
    [replace(PROMPT, token_ids=(1, 5, 8, 5, 9, 7)), replace(PROMPT, positions=(1, 3))],
    ids=["tokens", "places"],
)
def test_other_beginnings_have_other_keys(other):
    assert not {read.key for read in reads_of(PROMPT, "m")} & {read.key for read in reads_of(other, "m")}
    assert not {read.key for read in reads_of(PROMPT, "m")} & {read.key for read in reads_of(PROMPT, "lora")}


def test_what_was_read_is_not_missing():
    memory = ReadMemory()
    first = PromptReads(PROMPT, "m", memory)
    assert len(first.missing) == 2
    for number, read in enumerate(first.missing):
        first.take(read, row(number, 0.5), len(read.token_ids))
    logits, num_cached = first.result()
    assert logits.tolist() == [[0, 0.5], [1, 0.5]]
    assert num_cached == 0
    longer = PromptReads(Prompt((*PROMPT.token_ids[:5], 3, 9), (2, 4, 6)), "m", memory)
    (read,) = longer.missing
    assert list(read.token_ids) == [1, 5, 9, 5, 9, 3, 9]
    longer.take(read, row(2, 0.5), 2)  # the rest came from the prefix cache
    logits, num_cached = longer.result()
    assert logits.tolist() == [[0, 0.5], [1, 0.5], [2, 0.5]]
    assert num_cached == 5


def test_what_was_asked_before_is_not_remembered_after_a_change():
    memory = ReadMemory()
    reads = PromptReads(PROMPT, "m", memory)
    memory.forget()  # new weights, while the old ones still answer
    for read in reads.missing:
        reads.take(read, row(1, 2), 0)
    assert reads.result()[0].shape == (2, 2)
    assert len(PromptReads(PROMPT, "m", memory).missing) == 2


def test_a_memory_keeps_what_was_used_last_within_its_bytes():
    memory = ReadMemory(max_bytes=1000)
    prompts = [Prompt((n,), (0,)) for n in range(5)]
    for prompt in prompts:
        reads = PromptReads(prompt, "m", memory)
        reads.take(reads.missing[0], row(1, 2), 1)
        reads.result()
    remembered = [not PromptReads(prompt, "m", memory).missing for prompt in prompts]
    assert remembered == [False, False, False, True, True]


def test_a_row_larger_than_the_memory_is_only_not_remembered():
    memory = ReadMemory(max_bytes=10)
    reads = PromptReads(PROMPT, "m", memory)
    for read in reads.missing:
        reads.take(read, row(1, 2), 0)
    assert reads.result()[0].tolist() == [[1, 2], [1, 2]]
