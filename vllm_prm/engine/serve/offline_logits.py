"""The logits of many prompts from an `LLM` in this process, whichever of the two kinds of engine it is.

Every prompt gets its logits or an error of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from vllm_prm.engine.compat import request_failure
from vllm_prm.engine.positions import positions_request
from vllm_prm.engine.serve.generated import likeliest_tokens, num_computed_tokens, row_of, sampling_params
from vllm_prm.engine.serve.pooled import Answer, other_tokens
from vllm_prm.engine.serve.weights import forget_on_changes
from vllm_prm.errors import EngineError, PRMError, RequestError
from vllm_prm.prompts import Prompt
from vllm_prm.prompts.reads import PromptReads, ReadMemory

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.outputs import PoolingRequestOutput

    from vllm_prm.recipes import BoundRecipe


class PooledPrompts:
    """From a pooling engine: one request per prompt. lora: a LoRARequest for all, or None."""

    def __init__(self, llm: LLM, lora: Any) -> None:
        self._llm, self._lora = llm, lora
        self.longest = llm.model_config.max_model_len

    def answers(self, prompts: Sequence[Prompt], bar: tqdm) -> list[Answer | PRMError]:
        from vllm import PoolingParams

        bar.total += len(prompts)
        outputs = self._llm.encode(
            [dict(prompt.media or {"prompt_token_ids": list(prompt.token_ids)}) for prompt in prompts],
            [
                PoolingParams(use_activation=False, extra_kwargs=positions_request(prompt.positions))
                for prompt in prompts
            ],
            pooling_task="embed",
            lora_request=self._lora,
            use_tqdm=_PartOf(bar),
        )
        pairs = zip(outputs, prompts, strict=True)
        return [
            _failure(output) or other_tokens(output.prompt_token_ids, prompt) or _pooled(output)
            for output, prompt in pairs
        ]


class GeneratedPrompts:
    """From an engine that generates text: one request per step that was not read before."""

    def __init__(self, llm: LLM, lora: Any, recipe: BoundRecipe) -> None:
        self._llm, self._lora, self._recipe = llm, lora, recipe
        self.longest = llm.model_config.max_model_len - 1  # one more is generated
        self._likeliest = likeliest_tokens(llm.llm_engine.vllm_config)
        self._memory = ReadMemory()
        forget_on_changes(llm.llm_engine, self._memory)

    def answers(self, prompts: Sequence[Prompt], bar: tqdm) -> list[Answer | PRMError]:
        model = "" if self._lora is None else self._lora.lora_path
        prompt_reads = [PromptReads(prompt, model, self._memory) for prompt in prompts]
        asked = {read.key: read for reads in prompt_reads for read in reads.missing}  # the same one once
        bar.total += len(asked)
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(read.token_ids)} for read in asked.values()],
            sampling_params(self._recipe.scoring_ids, self._likeliest),
            lora_request=self._lora,
            use_tqdm=_PartOf(bar),
        )
        by_key = dict(zip(asked, outputs, strict=True))
        return [self._answer(reads, by_key) for reads in prompt_reads]

    def _answer(self, reads: PromptReads, outputs: dict[bytes, Any]) -> Answer | PRMError:
        try:
            for read in reads.missing:
                output = outputs[read.key]
                if (failure := _failure(output)) is not None:
                    return failure
                reads.take(read, row_of(output, self._recipe, self._likeliest), num_computed_tokens(output))
            return reads.result()
        except PRMError as error:
            return error


class _PartOf:
    """A progress bar for vLLM that moves one of ours, so that many calls have one bar.

    vLLM makes its bars by calling what it is given, as tqdm itself is called.
    """

    n = -1  # vLLM refreshes a bar whose `n` is the number of its prompts; ours refreshes itself

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar
        self._start = time.monotonic() - 1e-9  # never 0
        self.postfix = ""  # vLLM writes the speed of generation there, which is that of our reads: not shown

    def __call__(self, iterable: Iterable[Any] | None = None, **_: Any) -> Any:
        return self if iterable is None else iterable  # a second bar, of prompts handed over: not shown

    @property
    def format_dict(self) -> dict[str, Any]:
        """vLLM divides by the seconds that have passed, which a bar that is not shown does not count."""
        return {"elapsed": time.monotonic() - self._start}

    def update(self, n: int = 1) -> None:
        self._bar.update(n)

    def close(self) -> None:
        return


def _pooled(output: PoolingRequestOutput) -> Answer:
    logits: np.ndarray = output.outputs.data.numpy()
    return logits, output.num_cached_tokens or 0


def _failure(output: Any) -> PRMError | None:
    """RequestError or EngineError, by whose fault it is, if the request failed."""
    if (failure := request_failure(output)) is None:
        return None
    kind = RequestError if isinstance(failure, ValueError) else EngineError
    error = kind(f"the engine could not score a prompt of this solution: {failure}")
    error.__cause__ = failure
    return error
