"""Best-of-N: does the PRM choose a right solution among N?

A line holds a question and its candidates:

    {"question": "...", "answer": "18",
     "candidates": [{"steps": ["...", "..."], "answer": "18", "correct": true}, ...]}

A candidate is right if its `correct` says so; without it, if its answer is the question's up to white space.
The first N candidates of every question are taken, N = 1, 2, 4, ..., up to what the question with the fewest has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vllm_prm.aggregate import aggregate, best_of_n, check_aggregation, majority, same_but_for_space, weighted_majority
from vllm_prm.errors import RequestError
from vllm_prm.evaluate.fields import Line, Scores, check_scores
from vllm_prm.evaluate.table import table, unscored_note

FIELDS = ("question", "candidates")


@dataclass(frozen=True)
class Candidate:
    """answer: its final answer, None if it has none."""

    steps: tuple[str, ...]
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class Example:
    """One question with its candidates."""

    id: str
    question: str
    candidates: tuple[Candidate, ...]

    @classmethod
    def parse(cls, line: Line) -> Example:
        reference = line.text("answer") if line.raw.get("answer") is not None else None
        candidates = tuple(_candidate(part, reference) for part in line.parts("candidates"))
        return cls(str(line.raw.get("id", line.where)), line.text("question"), candidates)

    @property
    def solutions(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return tuple((self.question, candidate.steps) for candidate in self.candidates)


@dataclass(frozen=True)
class NResult:
    """Questions answered right, in percent, when n candidates are looked at.

    best_of_n: by the candidate with the highest aggregate. majority, weighted_majority: by the answer that most
    candidates give, each voting with 1, or with its aggregate; None where no candidate has an answer, or aggregates
    are negative. oracle: by any candidate (pass@n).
    """

    n: int
    best_of_n: float
    majority: float | None
    weighted_majority: float | None
    oracle: float


@dataclass(frozen=True)
class BestOfNResult:
    """mean_accuracy: of all candidates, in percent: what choosing blindly gives.

    unscored: candidates that could not be scored; they are never chosen and vote with weight 0, but count in majority.
    """

    rows: tuple[NResult, ...]
    questions: int
    mean_accuracy: float
    aggregation: str
    unscored: int

    def table(self) -> str:
        rows = [(str(r.n), r.best_of_n, r.majority, r.weighted_majority, r.oracle) for r in self.rows]
        return (
            f"Best of N, {self.questions} questions, aggregation {self.aggregation}, "
            f"mean accuracy of a candidate {self.mean_accuracy:.1f}\n"
            + table(("N", "best of N", "majority", "weighted majority", "oracle"), rows)
            + unscored_note(self.unscored, "are never chosen")
        )

    def to_dict(self) -> dict[str, Any]:
        return {"benchmark": "best-of-n", **asdict(self)}


def evaluate_best_of_n(
    examples: Sequence[Example],
    scores: Sequence[Sequence[Scores]],
    how: str = "min",
    key: Callable[[str], Hashable] | None = None,
) -> BestOfNResult:
    """scores: per question and candidate its step scores, or None if it could not be scored.

    how: the aggregation. key: what makes two answers the same, as in `majority`.
    Raises RequestError for no questions, an unknown aggregation, or scores that do not fit the steps.
    """
    check_aggregation(how)
    if not examples:
        raise RequestError("no questions to evaluate; expected one or more")
    totals = []
    for example, given in zip(examples, scores, strict=True):
        totals.append(
            [
                None
                if check_scores(steps, len(candidate.steps), f"question {example.id}, candidate {i}") is None
                else aggregate(steps or (), how)
                for i, (candidate, steps) in enumerate(zip(example.candidates, given, strict=True))
            ]
        )
    fewest = min(len(example.candidates) for example in examples)
    sizes = sorted({*(2**i for i in range(fewest.bit_length())), fewest})
    every = [candidate.correct for example in examples for candidate in example.candidates]
    return BestOfNResult(
        rows=tuple(_at(n, examples, totals, how, key) for n in sizes),
        questions=len(examples),
        mean_accuracy=100 * sum(every) / len(every),
        aggregation=how,
        unscored=sum(total is None for question in totals for total in question),
    )


def _at(
    n: int,
    examples: Sequence[Example],
    totals: Sequence[Sequence[float | None]],
    how: str,
    key: Callable[[str], Hashable] | None,
) -> NResult:
    chosen, voted, weighted, possible = [], [], [], []
    has_answers = any(c.answer is not None for example in examples for c in example.candidates)
    for example, given in zip(examples, totals, strict=True):
        candidates, all_totals = example.candidates[:n], given[:n]
        answers = [candidate.answer for candidate in candidates]
        scored = [i for i, total in enumerate(all_totals) if total is not None]
        best = scored[best_of_n([all_totals[i] or 0.0 for i in scored])] if scored else None
        chosen.append(best is not None and candidates[best].correct)
        possible.append(any(candidate.correct for candidate in candidates))
        voted.append(_right(candidates, majority(answers, key)))
        if how != "sum_log":  # negative: votes would count against
            weighted.append(_right(candidates, weighted_majority(answers, [t or 0.0 for t in all_totals], key)))
    return NResult(
        n,
        _percent(chosen),
        _percent(voted) if has_answers else None,
        _percent(weighted) if has_answers and weighted else None,
        _percent(possible),
    )


def _candidate(line: Line, reference: str | None) -> Candidate:
    answer = line.text("answer") if line.raw.get("answer") is not None else None
    correct = line.raw.get("correct")
    if correct is None:
        if reference is None:
            raise RequestError(
                f"{line.where}: whether it is right is not said; expected 'correct' (true or false) here, "
                "or the question's reference 'answer' beside 'candidates'"
            )
        correct = answer is not None and same_but_for_space(answer) == same_but_for_space(reference)
    if not isinstance(correct, bool):
        raise line.fault("correct", correct, "true or false")
    return Candidate(line.texts("steps"), answer, correct)


def _right(candidates: Sequence[Candidate], answer: str | None) -> bool:
    """Whether the first candidate that gives this answer is right."""
    return answer is not None and next(c.correct for c in candidates if c.answer == answer)


def _percent(hits: Sequence[bool]) -> float:
    return 100 * sum(hits) / len(hits)
