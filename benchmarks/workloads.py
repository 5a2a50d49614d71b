"""What is sent: prompts as token ids, with the lengths of real solutions (data/prm-lengths.csv).

The words are random, because only lengths and shared prefixes cost time; every step ends in the step tag.
A `Batches` is what one turn sends: batches one after the other, each waited for, as a search does.
"""

from __future__ import annotations

import csv
import random
from functools import lru_cache
from pathlib import Path

Batches = list[list[list[int]]]
LENGTHS = Path(__file__).parent / "data" / "prm-lengths.csv"


@lru_cache(maxsize=1)
def real_lengths() -> list[tuple[int, list[int]]]:
    """Tokens of the question and of each step (its tag included), per solution."""
    with LENGTHS.open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [(int(row["question_tokens"]), [int(n) for n in row["step_tokens"].split()]) for row in rows]


class Writer:
    """Random words in real lengths."""

    def __init__(self, seed: int, tag: int) -> None:
        self.rng, self.tag = random.Random(seed), tag
        self._words = [i for i in range(1000, 12000) if i != tag]  # ordinary pieces of any vocabulary

    def words(self, count: int) -> list[int]:
        return self.rng.choices(self._words, k=max(1, count))

    def step(self, length: int) -> list[int]:
        return [*self.words(length - 1), self.tag]

    def question(self) -> list[int]:
        return self.words(self.rng.choice(real_lengths())[0])

    def steps(self) -> list[int]:
        """The steps of one real solution."""
        return [id_ for length in self.rng.choice(real_lengths())[1] for id_ in self.step(length)]

    def next_step(self) -> list[int]:
        return self.step(self.rng.choice(self.rng.choice(real_lengths())[1]))


def best_of_n(seed: int, tag: int, questions: int = 1, candidates: int = 8) -> Batches:
    """One batch: every candidate solution of every question."""
    writer = Writer(seed, tag)
    shared = [writer.question() for _ in range(questions)]
    return [[question + writer.steps() for question in shared for _ in range(candidates)]]


def mean_lengths(seed: int, tag: int, solutions: int = 8) -> Batches:
    """One batch of solutions that share nothing: a question of 50 tokens and 11 steps of 30, the means of real ones."""
    writer = Writer(seed, tag)
    return [[writer.words(50) + [id_ for _ in range(11) for id_ in writer.step(30)] for _ in range(solutions)]]


def beam_search(rounds: int, seed: int, tag: int, beams: int = 4, kept: int = 2) -> Batches:
    """One batch a round: every beam's whole prefix. Then `kept` of them fork into `beams`."""
    writer = Writer(seed, tag)
    fronts = [writer.question()] * beams
    batches = []
    for _ in range(rounds):
        fronts = [front + writer.next_step() for front in fronts]
        batches.append(fronts)
        fronts = [front for front in writer.rng.sample(fronts, kept) for _ in range(beams // kept)]
    return batches


def dvts(rounds: int, seed: int, tag: int, trees: int = 2, width: int = 4) -> Batches:
    """Diverse verifier tree search: `trees` independent searches, each keeping its best of `width` every round."""
    searches = [beam_search(rounds, seed * trees + tree, tag, beams=width, kept=1) for tree in range(trees)]
    return [[ids for search in searches for ids in search[number]] for number in range(rounds)]


def long_solution(seed: int, tag: int, tokens: int) -> list[int]:
    """A solution of exactly `tokens` tokens, in steps of real lengths."""
    writer = Writer(seed, tag)
    ids = writer.question()
    while len(ids) < tokens:
        ids += writer.next_step()
    return [*ids[: tokens - 1], tag]


def sent(batches: Batches) -> int:
    """Tokens of all prompts."""
    return sum(len(ids) for batch in batches for ids in batch)


def unique(batches: Batches) -> int:
    """Different prefixes among all prompts: what reuse without blocks would leave to compute."""
    return len({hash(tuple(ids[:end])) for batch in batches for ids in batch for end in range(1, len(ids) + 1)})


def ideal(batches: Batches, block: int) -> int:
    """Tokens that whole-block reuse leaves to compute, with an endless cache.

    Per prompt: its tokens less the whole blocks of its longest prefix sent before; its last token at least.
    """
    seen: set[int] = set()
    computed = 0
    for batch in batches:
        for ids in batch:
            reused = 0
            while reused + block < len(ids) and hash(tuple(ids[: reused + block])) in seen:
                reused += block
            computed += len(ids) - reused
            seen.update(hash(tuple(ids[:end])) for end in range(block, len(ids) + 1, block))
    return computed
