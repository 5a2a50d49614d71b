"""Worked arithmetic for the tiny PRM: word problems, step-by-step solutions, where they go wrong.

Owns the text: how a problem reads, how a solution is written, which mistakes are made. Knows
nothing of tokens or models. A question tells a short story about a count (`Mia has 12 apples. She
buys 5. She eats 3. How many now?`); a solution works through it one sum or difference at a time,
in the order of the story, each step ending in the step tag ` ки` (the layout of Math-Shepherd,
https://huggingface.co/datasets/peiyi9979/Math-Shepherd).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

STEP_TAG = " ки"
PROMPT_FORMAT = {  # what `prompt` below writes, for the recipe
    "kind": "raw",
    "question": "{question} ",
    "step": "Step {k}: {step}",
    "tag": STEP_TAG,
    "separator": "\n",
}
LARGEST = 24  # every number in a problem lies in 0..LARGEST; the tokenizer has one piece for each
MOST_STEPS = 3
HELD_OUT_SHARE = 10  # one question in ten, chosen by the hash of its text, is never trained on

PEOPLE = {"Mia": "She", "Ada": "She", "Eva": "She", "Tom": "He", "Ben": "He", "Max": "He"}
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens", "shells", "stamps")
GAIN = ("buys", "finds", "gets", "makes")
LOSE = ("eats", "loses", "sells", "drops")

# carry: starts from another count than the last step left; sign: adds where the story subtracts,
# or the reverse; operand: takes a number the story does not tell; result: works the sum out wrong.
MISTAKES = ("carry", "sign", "operand", "result")
SLIPS = (-2, -1, 1, 2, 10, -10)


@dataclass(frozen=True)
class Solution:
    """A question, its steps (without tags), and per step whether all is right up to its end.

    As in Math-Shepherd a step after a mistake is not right either: it builds on a wrong count.
    """

    question: str
    steps: tuple[str, ...]
    right: tuple[bool, ...]
    mistakes: tuple[str | None, ...]  # the mistake made in each step, one of MISTAKES

    @property
    def first_error(self) -> int | None:
        return next((i for i, ok in enumerate(self.right) if not ok), None)

    @property
    def text(self) -> str:
        return prompt(self.question, self.steps)


def prompt(question: str, steps: Sequence[str]) -> str:
    """The text as a PRM reads it: the question, a blank, one step a line; each ends in the tag."""
    return question + " " + "\n".join(step + STEP_TAG for step in steps)


def is_held_out(question: str) -> bool:
    digest = hashlib.sha256(question.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


def solution(rng: random.Random, mistakes: int = 0, most_steps: int = MOST_STEPS) -> Solution:
    """A random problem of 1..most_steps steps, with `mistakes` of them wrong (or all, if fewer)."""
    while True:
        made = _draw(rng, mistakes, most_steps)
        if made is not None:
            return made


def _draw(rng: random.Random, mistakes: int, most_steps: int) -> Solution | None:
    """One draw; None if a count left 0..LARGEST on the way."""
    length = rng.randint(1, most_steps)
    start = rng.randint(0, LARGEST)
    changes = _changes(rng, start, length)
    if changes is None:
        return None

    person, thing = rng.choice(list(PEOPLE)), rng.choice(THINGS)
    story = [f"{person} has {start} {thing}."]
    for sign, amount in changes:
        story.append(f"{PEOPLE[person]} {rng.choice(GAIN if sign > 0 else LOSE)} {amount}.")
    question = " ".join([*story, "How many now?"])

    wrong = rng.sample(range(length), min(mistakes, length))
    told = [amount for _, amount in changes]
    steps: list[str] = []
    made: list[str | None] = []
    count = start
    for i, (sign, amount) in enumerate(changes):
        mistake = rng.choice(MISTAKES) if i in wrong else None
        if mistake == "carry":
            count = _other(rng, count)
        elif mistake == "sign":
            sign = -sign
        elif mistake == "operand":
            amount = _other(rng, amount, avoid=told)
        result = count + sign * amount
        if not 0 <= result <= LARGEST:
            return None
        if mistake == "result":
            result = _other(rng, result)
        steps.append(f"Step {i + 1}: {count} {'+' if sign > 0 else '-'} {amount} = {result}")
        made.append(mistake)
        count = result
    right = tuple(all(m is None for m in made[: i + 1]) for i in range(length))
    return Solution(question, tuple(steps), right, tuple(made))


def _changes(rng: random.Random, count: int, length: int) -> list[tuple[int, int]] | None:
    """What happens to the count, as (sign, amount); no amount comes twice in a story."""
    changes = []
    for amount in rng.sample(range(1, 16), length):
        signs = [sign for sign in (1, -1) if 0 <= count + sign * amount <= LARGEST]
        if not signs:
            return None
        changes.append((rng.choice(signs), amount))
        count += changes[-1][0] * amount
    return changes


def _other(rng: random.Random, number: int, avoid: Sequence[int] = ()) -> int:
    """Another number than this one: half the time a near miss or a slipped ten, else any."""
    while True:
        value = number + rng.choice(SLIPS) if rng.random() < 0.5 else rng.randint(0, LARGEST)
        if value != number and 0 <= value <= LARGEST and value not in avoid:
            return value
