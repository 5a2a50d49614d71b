"""Best-of-N: does the PRM choose a right solution among N?

A line holds a question and its candidates:

    {"question": "...", "image": "images/1.png", "answer": "18",
     "candidates": [{"steps": ["...", "..."], "answer": "18", "correct": true}, ...]}

A candidate is right if its `correct` says so; without it, if its answer is the question's up to white space.
The first N candidates of every question are taken, N = 1, 2, 4, ..., up to what the question with the fewest has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vllm_prm.aggregate import aggregate, best_of_n, check_aggregation, majority, same_but_for_space, weighted_majority
from vllm_prm.errors import RequestError
from vllm_prm.evaluate.benchmark import Format, Options
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.solutions import Solution, SolutionScores, checked_scores
from vllm_prm.evaluate.table import percent, table, unscored_note
from vllm_prm.questions import Question


@dataclass(frozen=True)
class Candidate:
    """answer: its final answer, None if it has none."""

    steps: tuple[str, ...]
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class BestOfNExample:
    """One question with its candidates."""

    id: str
    question: Question
    candidates: tuple[Candidate, ...]

    @property
    def solutions(self) -> tuple[Solution, ...]:
        return tuple(self._solution(i, candidate) for i, candidate in enumerate(self.candidates))

    def _solution(self, i: int, candidate: Candidate) -> Solution:
        tags = ["right" if candidate.correct else "wrong"]
        if candidate.answer is not None:
            tags.append(f"answer {candidate.answer}")
        return Solution(self.question, candidate.steps, f"{self.id}, candidate {i}", tags=tags)


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
        return {"benchmark": BestOfN.name, **asdict(self)}


class BestOfN(Format[BestOfNExample]):
    """A question and its candidates on each line."""

    name = "best-of-n"
    fields = ("question", "candidates")

    def parse(self, record: Record) -> BestOfNExample:
        reference = record.optional_text("answer")
        candidates = tuple(_candidate(part, reference) for part in record.records("candidates"))
        return BestOfNExample(record.identifier("id"), record.question("question"), candidates)

    def evaluate(
        self,
        splits: Mapping[str, Sequence[BestOfNExample]],
        scores: Mapping[str, Sequence[Sequence[SolutionScores]]],
        options: Options,
    ) -> BestOfNResult:
        """All files count together, as if they were one."""
        examples = [example for split in splits.values() for example in split]
        by_example = [of_candidates for split in scores.values() for of_candidates in split]
        return evaluate_best_of_n(examples, by_example, options.aggregation, options.key)


def evaluate_best_of_n(
    examples: Sequence[BestOfNExample],
    scores: Sequence[Sequence[SolutionScores]],
    aggregation: str = "min",
    key: Callable[[str], Hashable] | None = None,
) -> BestOfNResult:
    """scores: per question and candidate its step scores, or None if it could not be scored.

    aggregation: how step scores become one number. key: what makes two answers the same, as in `majority`.
    Raises RequestError for no questions, an unknown aggregation, or scores that do not fit the steps.
    """
    check_aggregation(aggregation)
    if not examples:
        raise RequestError("no questions to evaluate; expected one or more")
    aggregates = [
        _aggregates(example, of_candidates, aggregation)
        for example, of_candidates in zip(examples, scores, strict=True)
    ]
    fewest = min(len(example.candidates) for example in examples)
    sizes = sorted({*(2**i for i in range(fewest.bit_length())), fewest})
    votes_are_weighted = aggregation != "sum_log"  # its aggregates are negative: votes would count against an answer
    return BestOfNResult(
        rows=tuple(_n_result(n, examples, aggregates, votes_are_weighted, key) for n in sizes),
        questions=len(examples),
        mean_accuracy=percent([candidate.correct for example in examples for candidate in example.candidates]),
        aggregation=aggregation,
        unscored=sum(number is None for of_candidates in aggregates for number in of_candidates),
    )


def _candidate(record: Record, reference: str | None) -> Candidate:
    """reference: the question's right answer, if the file tells it."""
    answer, correct = record.optional_text("answer"), record.optional_boolean("correct")
    if correct is None:
        if reference is None:
            raise RequestError(
                f"{record.place}: whether it is right is not said; expected 'correct' (true or false) here, "
                "or the question's reference 'answer' beside 'candidates'"
            )
        correct = answer is not None and same_but_for_space(answer) == same_but_for_space(reference)
    return Candidate(record.texts("steps"), answer, correct)


def _aggregates(example: BestOfNExample, scores: Sequence[SolutionScores], aggregation: str) -> list[float | None]:
    """One number for each candidate of a question; None for one that could not be scored."""
    numbers: list[float | None] = []
    for i, (candidate, step_scores) in enumerate(zip(example.candidates, scores, strict=True)):
        checked = checked_scores(step_scores, candidate.steps, f"question {example.id}, candidate {i}")
        numbers.append(None if checked is None else aggregate(checked, aggregation))
    return numbers


def _n_result(
    n: int,
    examples: Sequence[BestOfNExample],
    aggregates: Sequence[Sequence[float | None]],
    votes_are_weighted: bool,
    key: Callable[[str], Hashable] | None,
) -> NResult:
    best, voted, weighted, possible = [], [], [], []  # for each question whether it is answered right
    for example, of_candidates in zip(examples, aggregates, strict=True):
        candidates, numbers = example.candidates[:n], of_candidates[:n]
        answers = [candidate.answer for candidate in candidates]
        best.append(_best_is_right(candidates, numbers))
        voted.append(_answer_is_right(candidates, majority(answers, key)))
        possible.append(any(candidate.correct for candidate in candidates))
        if votes_are_weighted:
            winner = weighted_majority(answers, [number or 0.0 for number in numbers], key)
            weighted.append(_answer_is_right(candidates, winner))
    has_answers = any(candidate.answer is not None for example in examples for candidate in example.candidates)
    return NResult(
        n,
        best_of_n=percent(best),
        majority=percent(voted) if has_answers else None,
        weighted_majority=percent(weighted) if has_answers and votes_are_weighted else None,
        oracle=percent(possible),
    )


def _best_is_right(candidates: Sequence[Candidate], aggregates: Sequence[float | None]) -> bool:
    """Whether the candidate with the highest aggregate is right. Without any aggregate none is chosen."""
    scored = [
        (candidate, number) for candidate, number in zip(candidates, aggregates, strict=True) if number is not None
    ]
    return bool(scored) and scored[best_of_n([number for _, number in scored])][0].correct


def _answer_is_right(candidates: Sequence[Candidate], answer: str | None) -> bool:
    """Whether the first candidate that gives this answer is right."""
    return answer is not None and next(candidate.correct for candidate in candidates if candidate.answer == answer)
