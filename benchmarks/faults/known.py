"""Solutions of the tiny PRM (examples/tiny-prm), and what each step must score: transformers in float32, no vLLM.

The text is the training script's own (examples/arithmetic.py) and the tokens are the tokenizer's, so prompt, positions
and scores are found without a line of this package.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))
from arithmetic import prompt, solution  # noqa: E402 - examples are no package

MODEL = ROOT / "examples" / "tiny-prm"
LONGEST = 512  # tokens: its max_position_embeddings
TOLERANCE = 1e-5  # float32's: prompts meet other prompts in a batch, and are computed in other chunks


class Broken(AssertionError):
    """What must hold did not. The message says what was found."""


@dataclass(frozen=True)
class Known:
    """A solution. scores: one for each step, P(right) at its tag; those of its first steps are the same alone."""

    question: str
    steps: tuple[str, ...]
    scores: tuple[float, ...]

    def first(self, count: int) -> Known:
        return Known(self.question, self.steps[:count], self.scores[:count])

    @property
    def text(self) -> str:
        """As the model reads it."""
        return prompt(self.question, numbered(self.steps))


def numbered(steps: Sequence[str]) -> list[str]:
    return [f"Step {k}: {step}" for k, step in enumerate(steps, 1)]


def solutions(questions: int, beams: int, most_steps: int, seed: int = 0) -> list[list[Known]]:
    """Per question its beams: `most_steps` steps each, of which some at the beginning are shared by all beams."""
    rng = random.Random(seed)
    return [[_known(*one) for one in _beams(rng, beams, most_steps)] for _ in range(questions)]


def _beams(rng: random.Random, beams: int, most_steps: int) -> list[tuple[str, list[str]]]:
    question = solution(rng).question
    shared = _steps(rng, rng.randint(0, most_steps // 2))
    return [(question, shared + _steps(rng, most_steps - len(shared))) for _ in range(beams)]


def _steps(rng: random.Random, count: int) -> list[str]:
    """Steps of any stories: a model says of them what it says of one."""
    found: list[str] = []
    while len(found) < count:
        found += [step.partition(": ")[2] for step in solution(rng, mistakes=rng.randint(0, 1)).steps]
    return found[:count]


def _known(question: str, steps: list[str]) -> Known:
    return Known(question, tuple(steps), tuple(_reference(question, steps)))


def _reference(question: str, steps: list[str]) -> list[float]:
    import torch

    torch.set_num_threads(1)  # a model this small is slower on several, the more so where others use them
    model, tokenizer, tag, good, bad = _model()
    ids = tokenizer.encode(prompt(question, numbered(steps)))
    if len(ids) > LONGEST:
        raise ValueError(f"{len(steps)} steps are {len(ids)} tokens; the model reads {LONGEST}")
    positions = [i for i, token in enumerate(ids) if token == tag]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, positions]
    return logits[:, [good, bad]].softmax(-1)[:, 0].tolist()


@cache
def _model() -> tuple[Any, Any, int, int, int]:
    """The model, its tokenizer, the ids of its step tag and its two scoring tokens, as its prm.json spells them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    recipe = json.loads((MODEL / "prm.json").read_text("utf-8"))
    pieces = [part["piece"] for part in (recipe["step_tag"], *recipe["scoring_tokens"].values())]
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    return model, tokenizer, *tokenizer.convert_tokens_to_ids(pieces)


def difference(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    """The largest between scores. Raises Broken where a step is missing or a score is no finite number."""
    if [len(one) for one in found] != [len(one) for one in expected]:
        raise Broken(f"{[len(one) for one in found]} scores, expected {[len(one) for one in expected]}")
    flat = [score for one in found for score in one]
    if not all(isinstance(score, float | int) and math.isfinite(score) for score in flat):
        raise Broken(f"scores that are no finite numbers: {flat}")
    return max((abs(a - b) for a, b in zip(flat, (b for one in expected for b in one), strict=True)), default=0.0)
