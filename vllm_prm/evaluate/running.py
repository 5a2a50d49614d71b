"""A benchmark and a scorer, or scores that exist already -> the benchmark's result.

Puts every score to its example; what the metrics are is for the benchmark's format to say.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from vllm_prm.errors import BatchError, PRMError, RequestError
from vllm_prm.evaluate.benchmark import Benchmark, ExampleT, Options, Result
from vllm_prm.evaluate.pictures import names_files, with_content
from vllm_prm.evaluate.solutions import SolutionScores, plain_scores
from vllm_prm.questions import Question
from vllm_prm.scorer import Scorer
from vllm_prm.scores import FIRST_ERROR_THRESHOLD, StepScores

IMAGES_BATCH = 128  # solutions whose images are in memory at a time; enough to keep an engine busy

_Asked = tuple[Question, tuple[str, ...]]


def score_benchmark(
    benchmark: Benchmark[ExampleT], scorer: Scorer, progress: bool = True
) -> list[StepScores | RequestError]:
    """Score every solution, in the order of `benchmark.solutions`.

    A solution that cannot be scored (too long, for one) has its RequestError in its place. Raises BatchError if the
    scorer fails for another reason: a benchmark half of which a dead server missed is no measurement.
    """
    results: list[StepScores | PRMError] = []
    for batch in _batches(benchmark.solutions):
        read = [_with_content(*solution) for solution in batch]
        readable = [solution for solution in read if not isinstance(solution, RequestError)]
        scores = iter(scorer.score_batch(readable, on_error="return", progress=progress))
        results += [one if isinstance(one, RequestError) else next(scores) for one in read]
    usable = [result for result in results if isinstance(result, StepScores | RequestError)]
    if len(usable) < len(results):
        raise BatchError(results)
    return usable


def evaluate(
    benchmark: Benchmark[ExampleT],
    scores: Scorer | Sequence[StepScores | PRMError | Sequence[float] | None],
    *,
    threshold: float | None = None,
    tune_on: str | None = None,
    aggregate: str | None = None,
    key: Callable[[str], Hashable] | None = None,
    progress: bool = True,
) -> Result:
    """Measure a scorer on a benchmark. The result's class is the benchmark's own, for example ProcessBenchResult.

    scores: a Scorer, or what it gave: one entry per solution of `benchmark.solutions`, StepScores or plain step
        scores; None or an error where there are none.
    threshold: below it a step is wrong (ProcessBench, labelled steps); not above it (PRMBench). None: the recipe's
        own, which StepScores know; 0.5 for plain scores.
    tune_on: ProcessBench only: the split to choose the threshold on.
    aggregate, key: best-of-N only: None is the recipe's own aggregation (min for plain scores), and white space.
    Raises RequestError if the scores or `tune_on` do not fit the benchmark; see score_benchmark for a scorer.
    """
    benchmark.check_tune_on(tune_on)
    results = score_benchmark(benchmark, scores, progress) if isinstance(scores, Scorer) else scores
    recipes_own = next((result.aggregation for result in results if isinstance(result, StepScores)), "min")
    if threshold is None:
        own = (result.threshold for result in results if isinstance(result, StepScores))
        threshold = next(own, FIRST_ERROR_THRESHOLD)
    options = Options(threshold, tune_on, aggregate or recipes_own, key)
    by_split = _by_split(benchmark, [plain_scores(result) for result in results])
    return benchmark.format.evaluate(benchmark.splits, by_split, options)


def _batches(solutions: list[_Asked]) -> list[list[_Asked]]:
    """All at once, unless images have to be read from files: then some, so that memory holds the images of some."""
    if not any(names_files(question) for question, _ in solutions):
        return [solutions]
    return [solutions[i : i + IMAGES_BATCH] for i in range(0, len(solutions), IMAGES_BATCH)]


def _with_content(question: Question, steps: tuple[str, ...]) -> _Asked | RequestError:
    try:
        return with_content(question), steps
    except RequestError as error:
        return error


def _by_split(
    benchmark: Benchmark[ExampleT], scores: Sequence[SolutionScores]
) -> dict[str, list[list[SolutionScores]]]:
    """The scores of all solutions in order -> by split, one entry per example, with one per solution of it."""
    expected = len(benchmark.solutions)
    if len(scores) != expected:
        raise RequestError(
            f"{len(scores)} scores for {expected} solutions; expected one entry for each solution, "
            "in the order of benchmark.solutions"
        )
    remaining = iter(scores)
    return {
        name: [[next(remaining) for _ in example.solutions] for example in examples]
        for name, examples in benchmark.splits.items()
    }
