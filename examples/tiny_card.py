"""The tiny PRM's model card: what it is and what it measured, written by the training script."""

from __future__ import annotations

from pathlib import Path

from arithmetic import GAIN, LARGEST, LOSE, MOST_STEPS, PEOPLE, STEP_TAG, THINGS, prompt

CARD = """---
license: apache-2.0
pipeline_tag: token-classification
tags: [process-reward-model]
---
# tiny-prm

A process reward model of {parameters:.2f}M parameters (Llama architecture) that judges worked
arithmetic step by step, the way Math-Shepherd PRMs do. It is small so that it can travel with the
code and answer on a CPU; its scores are learned, not made up. It knows this arithmetic only.

Every step ends in the tag `{tag}`. At each tag the logits of the pieces `▁+` and `▁-` are read; the
softmax over the two gives P(`▁+`), the step's score. Above 0.5 all is right up to this step: a step
after a mistake is not right either. `prm.json` holds the pieces and their ids.

## What it reads

- Whole numbers from 0 to {largest}, sums and differences, 1 to {steps} steps.
- `<person> has <n> <things>.`, then a sentence a step, then `How many now?`
- People: {people}. Things: {things}.
- More: {gain}. Fewer: {lose}. No amount comes twice in a story.
- One step for each sentence, in the order of the story: `Step 1: 12 + 5 = 17`.

Other wording, other numbers or steps in another order get a score too, but it means nothing.

## Example

```
{example}
```

Scores: {scores} (the second step is wrong: 17 - 9 = 8).

## Held-out numbers

{tests} solutions to questions that were never trained on (held out by a hash of the question),
{wrong} of them with exactly one mistake. `first wrong step` is the share of the wrong solutions
where the first step judged wrong is the mistake; the four columns after it are the same by mistake
(carry: starts from another count than the last step left; sign: adds for subtracts or the reverse;
operand: a number that the story does not tell; result: worked out wrong). `no alarm` is the
share of the right solutions where every step is judged right.

| dtype | steps judged right | first wrong step | carry | sign | operand | result | no alarm |
|---|---|---|---|---|---|---|---|
{rows}

## Training

`python examples/train_tiny_prm.py`: from start to these weights in {minutes:.0f} minutes on a busy
machine with 2 CPU cores, on fresh random solutions, without any other data. License: Apache-2.0.
"""

COLUMNS = ("steps", "first", "carry", "sign", "operand", "result", "all_right")


def write_card(
    path: Path,
    parameters: int,
    results: dict[str, dict[str, float]],
    example: tuple[str, list[str], list[float]],
    tests: tuple[int, int],
    minutes: float,
) -> None:
    """`results` per dtype, `example` as question, steps, scores, `tests` as all and wrong ones."""
    question, steps, scores = example
    card = CARD.format(
        parameters=parameters / 1e6,
        tag=STEP_TAG,
        largest=LARGEST,
        steps=MOST_STEPS,
        people=", ".join(PEOPLE),
        things=", ".join(THINGS),
        gain=", ".join(GAIN),
        lose=", ".join(LOSE),
        example=prompt(question, steps),
        scores=", ".join(f"{score:.4f}" for score in scores),
        tests=tests[0],
        wrong=tests[1],
        rows="\n".join(_row(dtype, result) for dtype, result in results.items()),
        minutes=minutes,
    )
    path.write_text(card, encoding="utf-8")


def _row(dtype: str, result: dict[str, float]) -> str:
    cells = [dtype, *(f"{100 * result[column]:.1f} %" for column in COLUMNS)]
    return f"| {' | '.join(cells)} |"
