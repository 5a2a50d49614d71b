"""A benchmark and a scorer, or scores that exist already -> the benchmark's result."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Any

from vllm_prm.errors import BatchError, PRMError, RequestError
from vllm_prm.evaluate.bestofn import BestOfNResult, evaluate_best_of_n
from vllm_prm.evaluate.fields import Scores
from vllm_prm.evaluate.loading import Benchmark
from vllm_prm.evaluate.prmbench import PRMBenchResult, evaluate_prmbench
from vllm_prm.evaluate.processbench import ProcessBenchResult, evaluate_processbench
from vllm_prm.scorer import Scorer
from vllm_prm.scores import FIRST_ERROR_THRESHOLD, StepScores

Result = ProcessBenchResult | PRMBenchResult | BestOfNResult


def score_benchmark(benchmark: Benchmark, scorer: Scorer, progress: bool = True) -> list[StepScores | RequestError]:
    """Score every solution, in the order of `benchmark.solutions`.

    A solution that cannot be scored (too long, for one) has its RequestError in its place. Raises BatchError if the
    scorer fails for another reason: a benchmark half of which a dead server missed is no measurement.
    """
    results = scorer.score_batch(benchmark.solutions, on_error="return", progress=progress)
    kept = [result for result in results if isinstance(result, StepScores | RequestError)]
    if len(kept) < len(results):
        raise BatchError(results)
    return kept


def evaluate(
    benchmark: Benchmark,
    scores: Scorer | Sequence[StepScores | PRMError | Sequence[float] | None],
    *,
    threshold: float = FIRST_ERROR_THRESHOLD,
    tune_on: str | None = None,
    aggregate: str | None = None,
    key: Callable[[str], Hashable] | None = None,
    progress: bool = True,
) -> Result:
    """Measure a scorer on a benchmark.

    scores: a Scorer, or what it gave: one entry per solution of `benchmark.solutions`, StepScores or plain step
        scores; None or an error where there are none.
    threshold: below it a step is wrong (ProcessBench); not above it (PRMBench).
    tune_on: ProcessBench only: the split to choose the threshold on.
    aggregate, key: best-of-N only: None is the recipe's own aggregation (min for plain scores), and white space.
    Raises RequestError if the scores do not fit the benchmark; see score_benchmark for a scorer.
    """
    given = score_benchmark(benchmark, scores, progress) if isinstance(scores, Scorer) else scores
    plain = [_plain(entry) for entry in given]
    if len(plain) != len(benchmark.solutions):
        raise RequestError(
            f"{len(plain)} scores for {len(benchmark.solutions)} solutions; expected one entry for each solution, "
            "in the order of benchmark.solutions"
        )
    rest = iter(plain)
    splits: dict[str, list[list[Scores]]] = {
        name: [list(islice(rest, len(example.solutions))) for example in examples]
        for name, examples in benchmark.splits.items()
    }
    examples: list[Any] = [example for split in benchmark.splits.values() for example in split]
    if benchmark.kind == "processbench":
        single = {name: [entry for (entry,) in split] for name, split in splits.items()}
        return evaluate_processbench(benchmark.splits, single, threshold, tune_on)  # type: ignore[arg-type]  # by kind
    if benchmark.kind == "prmbench":
        return evaluate_prmbench(examples, plain, threshold)
    how = aggregate or next((entry.aggregation for entry in given if isinstance(entry, StepScores)), "min")
    return evaluate_best_of_n(examples, [question for split in splits.values() for question in split], how, key)


def _plain(entry: StepScores | PRMError | Sequence[float] | None) -> Scores:
    if entry is None or isinstance(entry, PRMError):
        return None
    return entry.step_scores if isinstance(entry, StepScores) else tuple(entry)
