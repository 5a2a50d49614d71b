"""Ray Data: `StepScorer`, which `Dataset.map_batches` makes once in each of its actors.

Read in Ray 2.60: the actor unpickles the class and its arguments, so what makes the engine is handed over, not the
engine. `ray.data.llm`'s vLLM processor is another way, for prompts that are ready: it asks one prompt of a row, once,
so recipes that ask in passes or again have no place in it, and its package asks for one version of vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vllm_prm.aggregate import check_aggregation
from vllm_prm.errors import PRMError, RequestError, ScorerError, UnreachableError
from vllm_prm.lines import solution
from vllm_prm.prompts import split_steps

if TYPE_CHECKING:
    import pyarrow

    from vllm_prm.scorer import Scorer
    from vllm_prm.scores import StepScores


_ADDED = ("step_scores", "score", "first_error", "answer_mass", "error")


class StepScorer:
    """Rows in, the same rows with step scores out, in their order: `map_batches(StepScorer, batch_format="pyarrow")`.

    make: makes what scores, in the actor: functools.partial(PRM, "my-prm"), or PRMClient with a server's address.
    aggregate, threshold: how step scores become the score, below which a step is wrong; None: the recipe's own.

    A row has `question` (or `problem`), and `steps` or `solution`, as a line of `vllm-prm score` has. What is added is
    named as there: step_scores [steps], score, first_error (null: none), steps of rows that had a `solution`,
    answer_mass [steps] of a judge; error: why a row was not scored, the others are null then.
    Raises RequestError for an unknown aggregation, what `make` raises, and ScorerError where none of a batch's rows is
    scored by the scorer's fault, or a server is gone.
    """

    def __init__(
        self, make: Callable[[], Scorer], aggregate: str | None = None, threshold: float | None = None
    ) -> None:
        if aggregate is not None:
            check_aggregation(aggregate)
        self._prm, self._aggregate, self._threshold = make(), aggregate, threshold

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        import pyarrow

        numbers, texts = pyarrow.list_(pyarrow.float64()), pyarrow.list_(pyarrow.string())
        types = {"step_scores": numbers, "score": pyarrow.float64(), "first_error": pyarrow.int64()}
        types |= {"answer_mass": numbers} if self._prm.recipe.answer_mass else {}
        types |= {"steps": texts} if "solution" in table.column_names else {}
        types["error"] = pyarrow.string()
        rows = self.scored(table.to_pylist())
        table = table.drop_columns([name for name in types if name in table.column_names])
        for name, kind in types.items():
            table = table.append_column(name, pyarrow.array([row.get(name) for row in rows], kind))
        return table

    def scored(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows with what is added to them, `error` only where there is one. A field of None, as Arrow fills it in,
        counts as none."""
        kept = [{name: value for name, value in row.items() if name not in _ADDED} for row in rows]
        asked = [self._asked({name: value for name, value in row.items() if value is not None}) for row in kept]
        results = iter(self._results([one for one in asked if not isinstance(one, RequestError)]))
        answers = []
        for row, one in zip(kept, asked, strict=True):
            if isinstance(one, RequestError):
                answers.append({**row, "error": str(one)})
            else:
                answers.append({**row, "steps": one[1], **self._added(next(results))})
        return answers

    def _results(self, solutions: list[Any]) -> list[StepScores | PRMError]:
        results = self._prm.score_batch(solutions, on_error="return", progress=False)
        faults = [result for result in results if isinstance(result, ScorerError)]
        if faults and (len(faults) == len(results) or isinstance(faults[0], UnreachableError)):
            raise faults[0]  # no row's fault: rows that came out with it would not be scored again
        return results

    def _asked(self, fields: Mapping[str, Any]) -> Any:
        """(question, steps), or what is wrong with the row."""
        try:
            return solution(fields, lambda text: split_steps(text, self._prm.recipe))
        except RequestError as error:
            return error

    def _added(self, result: StepScores | PRMError) -> dict[str, Any]:
        if isinstance(result, PRMError):
            return {"error": str(result)}
        added = {
            "step_scores": list(result.step_scores),
            "score": result.aggregate(self._aggregate),
            "first_error": result.first_error(self._threshold),
        }
        return added | ({"answer_mass": list(result.answer_mass)} if result.answer_mass else {})
