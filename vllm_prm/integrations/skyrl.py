"""SkyRL: `PRMEnv`, a text environment of one turn whose reward is the PRM's.

Read in skyrl-gym 0.4.0 (`envs/base_text_env.py`, `metrics.py`) and in `train/generators/skyrl_gym_generator.py` of
skyrl 0.3.0: the trainer makes one for each trajectory, calls `init` with the prompt's messages, `step` with what the
policy wrote, both in a thread, then `get_metrics` and `close`; a reward is a float. skyrl-gym takes only classes that
inherit from its own, so `PRMEnv` is made when it is first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from vllm_prm.integrations.served import Served
from vllm_prm.reward import Text, question_of
from vllm_prm.reward.function import Split
from vllm_prm.scores import StepScores


class ScoredAnswer:
    """What PRMEnv adds to SkyRL's BaseTextEnv. The keywords are filled by the `kwargs` of `skyrl_gym.register`.

    They are those of `Served`, and on_error: the reward of a response that cannot be scored; None: 0.
    """

    def __init__(
        self,
        env_config: Any = None,
        extras: Mapping[str, Any] | None = None,
        *,
        url: str | None = None,
        model: str | None = None,
        api_key: str | None = None,
        aggregate: str | None = None,
        split: Split = None,
        on_error: float | None = None,
    ) -> None:
        super().__init__()
        self._served = Served(url, model, api_key, aggregate, split)
        self._on_error = on_error
        self._question = ""
        self._metrics: dict[str, Any] = {}

    def init(self, prompt: Text) -> tuple[Text, dict[str, Any]]:
        """The prompt as it is. Raises RequestError if no one asks anything in it."""
        self._question = question_of(prompt)
        return prompt, {}

    def step(self, action: str) -> dict[str, Any]:
        """The reward of a response, which ends the episode; "metadata" has the step scores.

        Raises PRMError if the server cannot be asked.
        """
        (reward,) = self._served.blocking().rewards([self._question], [action])
        value = reward.value_or(self._on_error)
        self._metrics = dict(reward.logs(self._on_error))
        details: dict[str, Any] = {"step_scores": list(reward.step_scores), "error": reward.error, "first_error": None}
        if isinstance(reward.result, StepScores):
            details["first_error"] = reward.result.first_error()
        return {"observations": [], "reward": value, "done": True, "metadata": details}

    def get_metrics(self) -> dict[str, Any]:
        """prm_steps, prm_min, prm_mean, prm_last and prm_unscored of the response."""
        return self._metrics


def __getattr__(name: str) -> Any:
    if name != "PRMEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = importlib.import_module("skyrl_gym.envs.base_text_env").BaseTextEnv
    made = type(name, (ScoredAnswer, base), {"__module__": __name__, "__doc__": ScoredAnswer.__doc__})
    globals()[name] = made  # one class, so that it is the same in a pickle
    return made
