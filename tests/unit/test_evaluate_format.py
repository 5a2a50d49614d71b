"""A benchmark is one Format: with it named in FORMATS, files of a new kind load, are measured and can be reported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from benchmark_files import plain, solution, write

from vllm_prm.errors import RequestError
from vllm_prm.evaluate import evaluate, load_benchmark
from vllm_prm.evaluate.benchmark import Format, Options
from vllm_prm.evaluate.loading import FORMATS
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.solutions import Solution
from vllm_prm.report import benchmark_rows

RATINGS = {"good": 1, "neutral": 0, "bad": -1}


@dataclass(frozen=True)
class Rated:
    """A question whose solutions have a rating for every step."""

    problem: str
    rated: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    @property
    def solutions(self):
        return tuple(
            Solution(self.problem, steps, f"attempt {i}", [j for j, rating in enumerate(ratings) if rating == "bad"])
            for i, (steps, ratings) in enumerate(self.rated)
        )


@dataclass(frozen=True)
class Agreement:
    """How many steps that are not neutral lie on the side of the threshold that their rating says."""

    hits: int
    steps: int

    def table(self) -> str:
        return f"{self.hits} of {self.steps}"

    def to_dict(self) -> dict[str, Any]:
        return {"hits": self.hits, "steps": self.steps}


class RatedSteps(Format[Rated]):
    name = "rated-steps"
    fields = ("problem", "attempts")

    def parse(self, record: Record) -> Rated:
        attempts = record.records("attempts")
        return Rated(record.text("problem"), tuple((each.texts("steps"), self.ratings(each)) for each in attempts))

    def ratings(self, attempt: Record) -> tuple[str, ...]:
        ratings = attempt.texts("ratings")
        for i, rating in enumerate(ratings):
            if rating not in RATINGS:
                raise attempt.unexpected(f"ratings[{i}]", rating, "good, neutral or bad")
        return ratings

    def evaluate(self, splits: Mapping[str, Any], scores: Mapping[str, Any], options: Options) -> Agreement:
        judged = [
            (score >= options.threshold) == (rating == "good")
            for name, examples in splits.items()
            for example, of_attempts in zip(examples, scores[name], strict=True)
            for (_, ratings), step_scores in zip(example.rated, of_attempts, strict=True)
            for rating, score in zip(ratings, step_scores or (), strict=step_scores is not None)
            if rating != "neutral"
        ]
        return Agreement(sum(judged), len(judged))


@pytest.fixture
def rated_file(tmp_path, monkeypatch):
    monkeypatch.setattr("vllm_prm.evaluate.loading.FORMATS", (*FORMATS, RatedSteps()))
    attempts = [
        {"steps": ["0.9", "0.4", "0.3"], "ratings": ["good", "neutral", "bad"]},
        {"steps": ["0.2"], "ratings": ["good"]},
    ]
    return write(
        tmp_path / "rated.jsonl", {"problem": "q", "attempts": attempts}, {"problem": "r", "attempts": attempts[:1]}
    )


def test_a_new_benchmark_is_loaded_and_measured(rated_file):
    benchmark = load_benchmark(rated_file)
    assert [question for question, _ in benchmark.solutions] == ["q", "q", "r"]
    result = evaluate(benchmark, plain(benchmark))
    assert (result.hits, result.steps) == (4, 5)
    assert evaluate(benchmark, [*plain(benchmark)[:2], None]).to_dict() == {"hits": 2, "steps": 3}
    assert evaluate(benchmark, plain(benchmark), threshold=0.1).table() == "3 of 5"


def test_a_report_shows_its_labels(rated_file):
    benchmark = load_benchmark(rated_file)
    rows = benchmark_rows(benchmark, plain(benchmark))
    assert [(row.name, row.wrong) for row in rows] == [("attempt 0", [2]), ("attempt 1", []), ("attempt 0", [2])]
    assert rows[0].tags == ["rated"]  # the split, for a solution without tags of its own


def test_its_faults_name_file_and_line(rated_file, tmp_path):
    row = json.loads(rated_file.read_text().splitlines()[0])
    row["attempts"][1]["ratings"] = ["great"]
    bad = write(tmp_path / "bad.jsonl", row)
    with pytest.raises(RequestError, match=r'bad.jsonl, line 1, attempts\[1\]: ratings\[0\] is the text "great"'):
        load_benchmark(bad)
    with pytest.raises(RequestError, match="is a processbench file and .* a rated-steps one"):
        load_benchmark([rated_file, write(tmp_path / "other.jsonl", solution([0.9], 0))])
    with pytest.raises(RequestError, match="best-of-n: question, candidates; .*; rated-steps: problem, attempts"):
        load_benchmark(write(tmp_path / "unknown.jsonl", {"x": 1}))


def test_no_two_formats_take_the_same_file():
    """A file is of the first format whose fields it has: one format's fields must not all be another's too."""
    for benchmark_format in FORMATS:
        for other in FORMATS:
            assert other is benchmark_format or not set(benchmark_format.fields) <= set(other.fields)
    assert len({benchmark_format.name for benchmark_format in FORMATS}) == len(FORMATS)
