"""What is asked of an engine that generates text, and what its answer says about a step.

One request per step: the prompt up to where the recipe reads, one token to generate, and the log-probabilities of the
scoring tokens. They are taken before temperature, penalties and the like (`logprobs_mode` raw_*), or where nothing of
the kind is set (processed_*), so generation settings of the server do not reach them. They are log-probabilities over
the whole vocabulary (raw_logits and processed_logits: the logits), whatever is made of them after.

An engine that decodes speculatively gives none for tokens that are asked for by id (the RejectionSampler of both of
vLLM's runners, 0.32), and one of the V1 runner dies if another request of the batch wants log-probabilities. So such an
engine is asked for its likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from vllm import SamplingParams
from vllm.exceptions import GenerationError
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import RequestOutputKind

from vllm_prm.engine.compat import request_failure
from vllm_prm.engine.serve.caller import concurrently
from vllm_prm.engine.serve.weights import forget_on_changes
from vllm_prm.errors import EngineError
from vllm_prm.prompts import Prompt
from vllm_prm.prompts.likeliest import likeliest_row
from vllm_prm.prompts.reads import PromptReads, Read, ReadMemory
from vllm_prm.prompts.tags import positions_of_tags

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.engine.protocol import EngineClient
    from vllm.outputs import RequestOutput

    from vllm_prm.engine.serve.caller import Caller
    from vllm_prm.engine.serve.pooled import Answer
    from vllm_prm.recipes import BoundRecipe

_MOST_LIKELIEST = 1000  # of a vocabulary: 10 kB a step on the way from the engine
_WITH_DRAFTS = (
    "This engine decodes speculatively, and then gives its likeliest tokens only: start it with a larger "
    "--max-logprobs, without --speculative-config, or a pooling engine (--task embed)"
)


def sampling_params(scoring_ids: Sequence[int], likeliest: int | None = None) -> SamplingParams:
    """For every read of a recipe with these scoring tokens; may be shared by requests.

    likeliest: ask for so many of the likeliest tokens; None: for just the scoring tokens.
    """
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,  # the token itself is thrown away; the likeliest is the cheapest, and among the likeliest
        logprobs=likeliest,
        logprob_token_ids=list(scoring_ids) if likeliest is None else None,
        detokenize=False,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _scoring_row(output: RequestOutput, scoring_ids: Sequence[int]) -> np.ndarray:
    (completion,) = output.outputs
    by_token = completion.logprobs[0] if completion.logprobs else {}
    if missing := [token_id for token_id in scoring_ids if token_id not in by_token]:
        raise EngineError(
            f"the engine gave no log-probability for the scoring tokens {missing}, only for {sorted(by_token)}. "
            "Please report this, with your engine flags"
        )
    return np.array([by_token[token_id].logprob for token_id in scoring_ids], dtype=np.float32)


def likeliest_tokens(vllm_config: VllmConfig) -> int | None:
    """How many of its likeliest tokens an engine is asked for; None: for just the scoring tokens."""
    if vllm_config.speculative_config is None:
        return None
    most = vllm_config.model_config.max_logprobs
    return min(vllm_config.model_config.get_vocab_size() if most == -1 else most, _MOST_LIKELIEST)


def row_of(output: RequestOutput, recipe: BoundRecipe, likeliest: int | None) -> np.ndarray:
    """float32 [scoring tokens]: what the engine gave for them; by default (--logprobs-mode raw_logprobs) over the whole
    vocabulary. likeliest: what it was asked for, as sampling_params.

    Raises EngineError if it gave none for a scoring token that could matter.
    """
    if likeliest is None:
        return _scoring_row(output, recipe.scoring_ids)
    (completion,) = output.outputs
    if not completion.logprobs:
        raise EngineError("the engine gave no log-probabilities. Please report this, with your engine flags")
    values = {token_id: logprob.logprob for token_id, logprob in completion.logprobs[0].items()}
    return likeliest_row(values, recipe.scoring_ids, recipe.recipe, _WITH_DRAFTS)


def num_computed_tokens(output: RequestOutput) -> int:
    """How many tokens of a request's prompt did not come from the prefix cache."""
    return len(output.prompt_token_ids or ()) - (output.num_cached_tokens or 0)


class GeneratedLogits:
    """Of vLLM's API server; as PooledLogits. recipe: looked up when it is needed, off the event loop by then."""

    def __init__(self, engine: EngineClient, recipe: Callable[[], BoundRecipe], log: Callable[..., None]) -> None:
        self._engine, self._recipe, self._log = engine, recipe, log
        self._memory = _memory(engine)
        self._likeliest = likeliest_tokens(engine.vllm_config)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt: one more is generated."""
        return self._engine.model_config.max_model_len - 1

    async def of_prompt(self, prompt: Prompt, caller: Caller, name: str) -> Answer:
        reads = PromptReads(prompt, caller.model, self._memory)
        params = sampling_params(self._recipe().scoring_ids, self._likeliest)
        # In their order: the engine finds what it computes for one of them in its prefix cache for the next.
        await concurrently(
            self._read(reads, read, params, caller, f"{name}-{number}") for number, read in enumerate(reads.missing)
        )
        return reads.result()

    async def of_text(self, token_ids: list[int], caller: Caller, name: str) -> Answer:
        """At the step tags among these tokens."""
        recipe = self._recipe()
        if not (positions := positions_of_tags(recipe, token_ids)):
            return np.empty((0, len(recipe.scoring_ids)), np.float32), 0
        return await self.of_prompt(Prompt(tuple(token_ids), tuple(positions)), caller, name)

    async def _read(self, reads: PromptReads, read: Read, params: SamplingParams, caller: Caller, name: str) -> None:
        prompt, request_id = tokens_input(list(read.token_ids)), f"{caller.request_id}-{name}"
        self._log(request_id, prompt, params=params, lora_request=caller.lora)
        outputs = self._engine.generate(
            prompt,
            params,
            request_id,
            lora_request=caller.lora,
            trace_headers=caller.trace_headers,
            priority=caller.priority,
        )
        async for output in outputs:  # yields once
            if (failure := request_failure(output)) is not None:
                raise failure
            reads.take(read, row_of(output, self._recipe(), self._likeliest), num_computed_tokens(output))
            return
        raise GenerationError("the engine ended the request without an answer")


def _memory(engine: EngineClient) -> ReadMemory:
    """Of what this front end has read, forgotten when the engine changes. One of several front ends does not hear of
    changes that came through another, so it remembers nothing."""
    is_alone = engine.vllm_config.parallel_config._api_process_count == 1
    memory = ReadMemory() if is_alone else ReadMemory(max_bytes=0)
    forget_on_changes(engine, memory)
    return memory
