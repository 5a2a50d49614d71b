"""verl: `compute_score`, its custom reward function (`reward.custom_reward_function`).

Read in verl 0.9.1: `experimental/reward_loop/reward_manager/naive.py` calls it once per response and takes a float, or
a dictionary with "score" whose other values it hands on as extra infos. They are gathered into numpy arrays
(`experimental/agent_loop/agent_loop.py`) and averaged in validation (`trainer/ppo/metric_utils.py`, where only strings
are left out), so every response has the same keys, and step scores, which differ in number, are a string.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.integrations.served import Served
from vllm_prm.reward.function import Split


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    question_key: str = "question",
    url: str | None = None,
    model: str | None = None,
    api_key: str | None = None,
    aggregate: str | None = None,
    split: Split = None,
    on_error: float | None = None,
    **_: Any,
) -> dict[str, float | str]:
    """The reward of one response as "score", and for logs "prm_steps", "prm_min", "prm_mean", "prm_last",
    "prm_unscored" and "prm_step_scores" (a JSON list).

    extra_info: holds the question, or the conversation that asks it, under `question_key`: verl hands no prompt on. The
    keywords from there on are those of `Served`; verl fills them from `reward_kwargs`. on_error: the score of a
    response that cannot be scored, for verl knows no "none"; None: 0.

    Raises RequestError without a question, PRMError if the server cannot be asked.
    """
    question = (extra_info or {}).get(question_key)
    if question is None:
        raise RequestError(
            f"extra_info has no {question_key!r}, only {sorted(extra_info or {})} (data source {data_source!r}); verl "
            "gives a reward function no prompt: put the question into the dataset's extra_info, or name the key that "
            "has it: reward_kwargs.question_key"
        )
    rewards = await Served(url, model, api_key, aggregate, split).awaited().rewards([question], [solution_str])
    return {
        "score": rewards[0].value_or(on_error),
        **rewards[0].logs(on_error),
        "prm_step_scores": json.dumps(rewards[0].step_scores),
    }
