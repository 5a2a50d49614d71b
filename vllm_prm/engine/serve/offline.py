"""PRM: score solutions in this process, without a server."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

from tqdm import tqdm  # type: ignore[import-untyped]

from vllm_prm.engine.compat import check_vllm
from vllm_prm.engine.generation import recipe_on
from vllm_prm.engine.settings import recipe_settings
from vllm_prm.engine.start.options import engine_options
from vllm_prm.errors import EngineError, PRMError, RequestError
from vllm_prm.prompts import Scoring, SeenQuestion, scorings, take_all
from vllm_prm.questions import Question, question_key
from vllm_prm.recipes import Recipe, bind, recipe_for
from vllm_prm.scorer import Item, OnError, Scorer, checked_items, settled
from vllm_prm.scores import StepScores

if TYPE_CHECKING:
    from vllm import LLM

    from vllm_prm.engine.serve.offline_logits import GeneratedPrompts, PooledPrompts

# Solutions that are planned at once. Few at first, because the engine waits for them; then more each time, because it
# runs empty at the end of each. While it works on some, the next are planned: that takes a fraction of its time.
_FIRST, _MOST = 256, 4096

# The shutdown wakes the thread, which has nothing to wait for; the bound is for a vLLM that no longer wakes it.
_LAST_ANSWER_S = 10.0

_Checked = tuple[Question, list[str]] | RequestError


class PRM(Scorer):
    """A process reward model on an engine of its own (PRM.from_llm: on one that is there).

    model: a name or folder, as vLLM takes it. recipe: a Recipe, a name, a JSON file or inline JSON; None finds it by
    the model's name or its prm.json. lora: an adapter's folder, applied to every request. Everything else goes to
    vLLM's LLM; runner="generate" makes an engine that generates text as well, and scores step by step
    (docs/one-engine.md). In a script, create it under `if __name__ == "__main__":`, because vLLM starts processes.

    Its questions may hold images, as addresses or as PIL's.

    Raises RecipeError if no recipe is known or the model does not fit it, UnsupportedError if vLLM is not installed, or
    not tested with, or if the engine cannot serve a PRM as configured.
    """

    _takes_pil = True
    _stop_engine: Callable[[], object] | None  # None: the engine is somebody else's

    def __init__(
        self, model: str, recipe: Recipe | str | None = None, *, lora: str | None = None, **engine_args: Any
    ) -> None:
        check_vllm()
        if not isinstance(recipe, Recipe):
            recipe = recipe_for(model, recipe, "PRM(model, recipe=...)")
        from vllm import LLM

        options = engine_options(recipe, engine_args)
        if lora is not None:
            options.setdefault("enable_lora", True)
        self._use(LLM(model, **options), recipe, lora)
        # Also when the engine is collected, and at exit where nobody closed it.
        self._stop_engine = weakref.finalize(self.llm, _stop, self.llm.llm_engine.engine_core)

    @classmethod
    def from_llm(cls, llm: LLM, recipe: Recipe | str | None = None, *, lora: str | None = None) -> PRM:
        """On an engine that is there: one that generates text, or one that was started as a PRM.

        recipe, lora: as of PRM; the engine of a PRM has its recipe already. close() leaves the engine running.
        Raises RecipeError or UnsupportedError if this engine cannot score by this recipe.
        """
        check_vllm()
        prm = cls.__new__(cls)
        prm._use(llm, recipe_on(llm.llm_engine.vllm_config, recipe), lora)
        return prm

    def _use(self, llm: LLM, recipe: Recipe, lora: str | None) -> None:
        self._llm: LLM | None = llm
        self._stop_engine = None
        self._bound_recipe = bind(recipe, llm.get_tokenizer())
        from vllm_prm.engine.serve.offline_logits import GeneratedPrompts, PooledPrompts  # imports vLLM
        from vllm_prm.engine.serve.pictures import Pictures

        self._pictures = Pictures(llm.llm_engine.renderer, lambda: self._bound_recipe)
        request = _lora_request(lora)
        if llm.model_config.runner_type == "generate":
            recipe_settings(self._bound_recipe, llm.model_config)  # raises if the model's head has no such rows
            self._prompts: PooledPrompts | GeneratedPrompts = GeneratedPrompts(llm, request, self._bound_recipe)
        else:
            self._prompts = PooledPrompts(llm, request)

    @property
    def recipe(self) -> Recipe:
        return self._bound_recipe.recipe

    @property
    def llm(self) -> LLM:
        """vLLM's engine, for everything else it can do. Raises EngineError after close()."""
        if self._llm is None:
            raise EngineError("this PRM is closed; make a new one")
        return self._llm

    @property
    def _open_prompts(self) -> PooledPrompts | GeneratedPrompts:
        """How prompts are asked. Raises EngineError after close()."""
        assert self.llm is not None
        return self._prompts

    def close(self) -> None:
        """Stop the engine and free its memory, if it was made by this PRM. Harmless if done already."""
        if self._stop_engine is not None:
            self._stop_engine()
        self._llm = None

    def score_batch(
        self, items: Iterable[Item], *, on_error: OnError = "raise", progress: bool = True
    ) -> list[StepScores | PRMError]:
        checked = checked_items(items, on_error, pil=True)
        results: list[StepScores | PRMError] = []
        with (
            ThreadPoolExecutor(1, "prm-planner") as planner,
            tqdm(total=len(checked), desc="Scoring", unit="prompt", disable=not progress) as bar,
        ):
            for planned in self._planned_ahead(planner, checked):
                results += self._scored(planned, bar)
        return settled(results, on_error)

    def _planned_ahead(
        self, planner: ThreadPoolExecutor, items: Sequence[_Checked]
    ) -> Iterator[list[Scoring | PRMError]]:
        """The items in chunks, planned. While the caller works on one, the next is planned, and no more."""
        if any(isinstance(item[0], list) for item in items if not isinstance(item, RequestError)):
            # Images are large, and vLLM's processor of them is not for two threads: small chunks, one after the other.
            yield from (self._planned(items[start : start + _FIRST]) for start in range(0, len(items), _FIRST))
            return
        if len(items) <= _FIRST:  # a round of a search: no thread is worth starting
            yield self._planned(items)
            return
        next_one: Future[list[Scoring | PRMError]] | None = None
        for chunk in _chunks(items):
            this_one, next_one = next_one, planner.submit(self._planned, chunk)
            if this_one is not None:
                yield this_one.result()
        if next_one is not None:
            yield next_one.result()

    def _planned(self, items: Sequence[_Checked]) -> list[Scoring | PRMError]:
        seen = self._seen(items)
        longest = self._open_prompts.longest
        solutions = [item for item in seen if not isinstance(item, PRMError)]
        planned = iter(scorings(solutions, self._bound_recipe, longest))
        results = [item if isinstance(item, PRMError) else next(planned) for item in seen]
        for index, result in enumerate(results):
            if isinstance(result, Scoring) and result.media is not None:
                try:
                    self._pictures.expand(result, longest)
                except PRMError as error:
                    results[index] = error
        return results

    def _seen(self, items: Sequence[_Checked]) -> list[tuple[str | SeenQuestion, list[str]] | PRMError]:
        """The items with their images fetched, those of each question once."""
        known: dict[Hashable, SeenQuestion | PRMError] = {}
        seen: list[tuple[str | SeenQuestion, list[str]] | PRMError] = []
        for item in items:
            if isinstance(item, PRMError):
                seen.append(item)
                continue
            question, steps = item
            if isinstance(question, str):
                seen.append((question, steps))
                continue
            key = question_key(question)
            if key not in known:
                try:
                    known[key] = self._pictures.see(question)
                except PRMError as error:
                    known[key] = error
            looked = known[key]
            seen.append(looked if isinstance(looked, PRMError) else (looked, steps))
        return seen

    def _scored(self, planned: Sequence[Scoring | PRMError], bar: tqdm) -> list[StepScores | PRMError]:
        results: dict[int, StepScores | PRMError] = {}
        waiting: dict[int, Scoring] = {}  # by index into `planned`, those that still wait for logits
        for index, scoring in enumerate(planned):
            if isinstance(scoring, Scoring):
                waiting[index] = scoring
            else:
                results[index] = scoring
        bar.total -= len(planned)  # a solution counts as one prompt until its prompts are known
        while waiting:
            prompts = [prompt for scoring in waiting.values() for prompt in scoring.prompts]
            answers = iter(self._open_prompts.answers(prompts, bar))
            taken = {}
            for index, scoring in waiting.items():
                its_answers = list(islice(answers, len(scoring.prompts)))
                errors = [answer for answer in its_answers if isinstance(answer, PRMError)]
                if errors:
                    results[index] = errors[0]
                    continue
                logits, num_cached = zip(*its_answers, strict=True)
                taken[index] = (scoring, list(logits), sum(num_cached))
            waiting = {}
            faults = take_all(list(taken.values()))  # of logits that do not fit, or of the next prompts
            for (index, (scoring, *_)), fault in zip(taken.items(), faults, strict=True):
                if fault is None and scoring.prompts:
                    waiting[index] = scoring
                else:
                    results[index] = fault or _result(scoring)
        return [results[index] for index in range(len(planned))]


def _chunks(items: Sequence[_Checked]) -> Iterator[Sequence[_Checked]]:
    start, size = 0, _FIRST
    while start < len(items):
        yield items[start : start + size]
        start, size = start + size, min(2 * size, _MOST)


def _result(scoring: Scoring) -> StepScores | PRMError:
    try:
        return scoring.result()
    except PRMError as error:  # logits that are not finite
        return error


def _lora_request(path: str | None) -> Any:
    if path is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("prm", 1, path)


def _stop(engine_core: Any) -> None:
    """Shut the engine down, and wait for the thread that receives its answers.

    vLLM leaves that thread running, with the last answer's tensors. Where Python exits while it drops them, torch ends
    the process with "terminate called without an active exception" (exit status 134, all work done).
    """
    engine_core.shutdown()
    thread = getattr(engine_core, "output_queue_thread", None)  # an engine in this process has none
    if thread is not None:
        thread.join(timeout=_LAST_ANSWER_S)
