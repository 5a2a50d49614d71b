"""ms-swift: `PRMReward`, an asynchronous reward for `--reward_funcs`, registered in `swift.rewards.orms`.

Read in ms-swift 4.6.0: `rlhf_trainers/grpo_trainer.py` makes it with `args=` and names it after its class;
`rl_core/grpo_algorithm.py` awaits whatever has a coroutine function as `__call__` (`asyncio.run`, once per batch), with
the completions and, by name, `messages` (each conversation up to and with its completion) and the dataset's columns.
None becomes NaN, which the trainer leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm_prm.integrations.served import Served
from vllm_prm.reward import Text
from vllm_prm.reward.function import Split


class PRMReward:
    """As `swift.rewards.AsyncORM`. The keywords are those of `Served`; functools.partial fills them for swift.

    step_scores: [completions][steps] of the last batch, for logs.
    """

    def __init__(
        self,
        args: Any = None,
        *,
        url: str | None = None,
        model: str | None = None,
        api_key: str | None = None,
        aggregate: str | None = None,
        split: Split = None,
        **_: Any,
    ) -> None:
        self.args = args
        self.step_scores: list[tuple[float, ...]] = []
        self._served = Served(url, model, api_key, aggregate, split)
        self._served.awaited()  # an address that is missing is told before training starts

    async def __call__(
        self, completions: Sequence[Text], messages: Sequence[Text], **columns: Any
    ) -> list[float | None]:
        """One reward per completion, None for one that cannot be scored.

        Raises PRMError if the server cannot be asked.
        """
        rewards = await self._served.awaited().rewards(messages, completions)
        self.step_scores = [reward.step_scores for reward in rewards]
        return [reward.value for reward in rewards]
