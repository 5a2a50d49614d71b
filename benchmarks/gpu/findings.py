"""What a check found: figures, and sentences about what is wrong. None of them ends the check: the others count too."""

from __future__ import annotations

from typing import Any

import torch

from gpu.oracle import Expected, Scores

# Of a probability, between bfloat16 and float32 on the checks' models, four times what was measured on a CPU.
MEAN, LARGEST = 0.012, 0.08
SHARPNESS = 5.0  # scores one token beside must be this many times further away than MEAN, or an error could hide


class NotPossible(Exception):
    """This machine cannot run the piece; the message says what it would take."""


class Findings:
    """answer: the JSON answer of the piece so far. mean, largest: how far scores may be from what they must be."""

    def __init__(self, mean: float = MEAN, largest: float = LARGEST) -> None:
        self.mean, self.largest = mean, largest
        self.figures: dict[str, Any] = {}
        self.wrong: list[str] = []

    def answer(self) -> dict[str, Any]:
        return {**self.figures, **({"failed": "; ".join(self.wrong)} if self.wrong else {})}

    def note(self, **figures: Any) -> None:
        self.figures.update(figures)

    def equal(self, name: str, value: Any, required: Any) -> None:
        """Both are JSON values."""
        self.figures[name] = value
        if value != required:
            self.wrong.append(f"{name} is {value}, expected {required}")

    def close(
        self,
        name: str,
        scores: Scores,
        required: Scores,
        mean: float | None = None,
        largest: float | None = None,
    ) -> None:
        """Note how far probabilities are from what is required. mean, largest: allowed here, unless as everywhere."""
        allowed_mean, allowed_largest = mean or self.mean, largest or self.largest
        if [len(rows) for rows in scores] != [len(rows) for rows in required]:
            steps = [[len(rows) for rows in each] for each in (scores, required)]
            self.wrong.append(f"{name}: {steps[0]} steps came back, expected {steps[1]}")
            return
        away = difference(scores, required)
        measured_mean, measured_largest = away.mean().item(), away.max().item()
        self.figures[name] = {"mean": round(measured_mean, 6), "largest": round(measured_largest, 6)}
        if not (measured_mean <= allowed_mean and measured_largest <= allowed_largest):  # not ">": NaN is wrong too
            self.wrong.append(
                f"{name}: scores are {measured_mean:.2g} away in the mean and {measured_largest:.2g} at most, "
                f"allowed are {allowed_mean} and {allowed_largest}"
            )

    def sharp(self, expected: Expected) -> None:
        """Scores one token beside must differ from the right ones, or `close` shows nothing."""
        away = difference(expected.beside, expected.scores).mean().item()
        self.figures["one token beside"] = round(away, 3)
        if not away >= SHARPNESS * self.mean:
            self.wrong.append(f"scores one token beside are only {away:.2g} away, so the check shows nothing")


def difference(scores: Scores, required: Scores) -> torch.Tensor:
    return (torch.cat(scores) - torch.cat(required)).abs()
