"""AReaL: `reward_fn`, for its workflows (`RLVRWorkflow(reward_fn=...)`).

Read in AReaL 1.0.4: `api/reward_api.py` runs it in a pool of processes, for 15 s at most (`timeout_seconds`), four
times at most, after which a timeout gives the reward 0 and an error ends the rollout. `workflow/rlvr.py` calls it with
the prompt and the completion as the policy's tokenizer writes them, their ids, and the dataset's columns by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from vllm_prm.errors import EngineError
from vllm_prm.integrations.served import Served
from vllm_prm.reward import Reward
from vllm_prm.reward.function import Split

# AReaL's 15 s, less what a new process needs for its imports and first client: 1 s, measured, more where it is busy.
DEADLINE_S = 12.0


def reward_fn(
    prompt: str,
    completions: str,
    prompt_ids: Sequence[int] | None = None,
    completion_ids: Sequence[int] | None = None,
    *,
    url: str | None = None,
    model: str | None = None,
    api_key: str | None = None,
    aggregate: str | None = None,
    split: Split = None,
    on_error: float | None = None,
    deadline: float = DEADLINE_S,
    **columns: Any,
) -> float:
    """The reward of one completion. functools.partial fills the keywords, which are those of `Served`.

    The question is the last user message of the column `messages`, if there is one, else of the prompt. on_error: the
    reward of a completion that cannot be scored; None: 0. deadline: seconds, with all retries.

    Raises EngineError if the server did not answer in that time, PRMError if it cannot be asked.
    """
    asked = Served(url, model, api_key, aggregate, split).awaited()

    async def rewards() -> list[Reward]:
        return await asyncio.wait_for(asked.rewards([columns.get("messages") or prompt], [completions]), deadline)

    try:
        (reward,) = asyncio.run(rewards())
    except TimeoutError as error:
        raise EngineError(
            f"no reward within {deadline:g} s, and AReaL waits little longer: the server is gone or has too much to "
            "do. Start more of them, or give AReaL's timeout_seconds and deadline= more time"
        ) from error
    return reward.value_or(on_error)
