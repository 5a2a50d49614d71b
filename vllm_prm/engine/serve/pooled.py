"""A prompt's logits from a pooling engine: one request, in which our pooler reads every position."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from vllm.exceptions import GenerationError
from vllm.inputs.engine import tokens_input
from vllm.pooling_params import PoolingParams

from vllm_prm.engine.compat import request_failure
from vllm_prm.engine.positions import positions_request
from vllm_prm.errors import EngineError

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient
    from vllm.outputs import PoolingRequestOutput

    from vllm_prm.engine.serve.caller import Caller
    from vllm_prm.prompts import Prompt

Answer = tuple[np.ndarray, int]  # float32 [positions × scoring tokens], flat or not; tokens from the prefix cache


class PooledLogits:
    """Of vLLM's API server. log: BaseServing's, of a request's inputs."""

    def __init__(self, engine: EngineClient, log: Callable[..., None]) -> None:
        self._engine, self._log = engine, log

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return self._engine.model_config.max_model_len

    async def of_prompt(self, prompt: Prompt, caller: Caller, name: str) -> Answer:
        """name: unique within the caller's request."""
        if prompt.media is None:
            return await self._encode(tokens_input(list(prompt.token_ids)), prompt.positions, caller, name)
        whole = await self._engine.renderer.process_for_engine_async(dict(prompt.media), time.time())
        if (refusal := other_tokens(whole["prompt_token_ids"], prompt)) is not None:
            raise refusal
        return await self._encode(whole, prompt.positions, caller, name)

    async def of_text(self, token_ids: list[int], caller: Caller, name: str) -> Answer:
        """At the step tags among these tokens, which the engine finds."""
        return await self._encode(tokens_input(token_ids), None, caller, name)

    async def _encode(self, prompt: Any, positions: Sequence[int] | None, caller: Caller, name: str) -> Answer:
        """prompt: vLLM's input to its engine."""
        params = PoolingParams(task="embed", use_activation=False)
        if positions is not None:
            params.extra_kwargs = positions_request(positions)
        # As vLLM's handlers do: inside encode, what verify raises would become a 500.
        params.verify(self._engine.model_config)
        request_id = f"{caller.request_id}-{name}"
        self._log(request_id, prompt, params=params, lora_request=caller.lora)
        outputs = self._engine.encode(
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
            return _logits(output), output.num_cached_tokens or 0
        raise GenerationError("the engine ended the request without an answer")


def other_tokens(token_ids: Sequence[int], prompt: Prompt) -> EngineError | None:
    """If the engine gets other tokens than the prompt was planned with, which vLLM makes of its images again."""
    if prompt.media is None or tuple(token_ids) == prompt.token_ids:
        return None
    return EngineError(
        f"vLLM made {len(token_ids)} tokens of a prompt with images, and {len(prompt.token_ids)} of the same one "
        "before, so its steps are not read where they were found. Please report this, with the model's name"
    )


def _logits(output: PoolingRequestOutput) -> np.ndarray:
    logits: np.ndarray = output.outputs.data.numpy()  # the pooler's are float32, and vLLM's wire puts them on the CPU
    return logits
