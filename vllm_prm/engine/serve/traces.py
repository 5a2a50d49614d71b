"""What a request's trace shows of us, where vLLM writes traces (`--otlp-traces-endpoint`): how long planning took.

vLLM's own spans (`llm_request`, one for each prompt) name our requests already, because their ids are ours.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from vllm.tracing import SpanAttributes, extract_trace_context, instrument_manual

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient

    from vllm_prm.engine.serve.caller import Caller
    from vllm_prm.prompts import Scoring

PLANNING = "prm_planning"  # the span's name


async def traced(planned: Awaitable[Scoring], engine: EngineClient, caller: Caller, name: str) -> Scoring:
    """Await a solution's prompts, and put the time from now on into the trace that the caller's headers name.

    name: unique within the caller's request. The ids of the requests to the engine begin with the span's.
    """
    if not await engine.is_tracing_enabled():
        return await planned
    begun_ns = time.time_ns()
    scoring = await planned
    instrument_manual(
        PLANNING,
        begun_ns,
        attributes={
            SpanAttributes.GEN_AI_REQUEST_ID: f"{caller.request_id}-{name}",
            SpanAttributes.GEN_AI_USAGE_PROMPT_TOKENS: sum(len(prompt.token_ids) for prompt in scoring.prompts),
        },
        context=extract_trace_context(caller.trace_headers),
    )
    return scoring
