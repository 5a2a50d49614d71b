"""its_hub: `ServedPRM`, the process reward model of its beam search and particle filters.

Read in its_hub 1.2.0: `api/reward_models/prm.py` (AbstractProcessRewardModel), and what `beam_search.py` and
`particle_gibbs.py` of `core/algorithms/` give it: a prompt and a list of texts, each a solution so far. Its own
`core/reward_models/local_vllm_prm.py` also takes one text and gives one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm_prm.integrations.served import Served
from vllm_prm.reward import Text
from vllm_prm.reward.function import Split


class ServedPRM:
    """As `its_hub.AbstractProcessRewardModel`. The keywords are those of `Served`.

    on_error: the score of a text that cannot be scored, such as an empty one; None: 0, so that a search drops it.
    step_scores: [texts][steps] of the last call, for logs.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        model: str | None = None,
        api_key: str | None = None,
        aggregate: str | None = None,
        split: Split = None,
        on_error: float | None = None,
    ) -> None:
        self.step_scores: list[tuple[float, ...]] = []
        self._served = Served(url, model, api_key, aggregate, split)
        self._served.awaited()  # an address that is missing is told at once
        self._on_error = on_error

    async def ascore(self, prompt_or_messages: Any, steps: str | Sequence[str]) -> list[float] | float:
        """One score per text, higher is better; of one text one number.

        prompt_or_messages: the question, its_hub's ChatMessages, a list of messages, or a list of such lists with one
        for each text. Raises PRMError if the server cannot be asked.
        """
        texts = [steps] if isinstance(steps, str) else list(steps)
        rewards = await self._served.awaited().rewards(_prompts(prompt_or_messages, len(texts)), texts)
        return self._scores(rewards, isinstance(steps, str))

    def score(self, prompt_or_messages: Any, steps: str | Sequence[str]) -> list[float] | float:
        """As ascore."""
        texts = [steps] if isinstance(steps, str) else list(steps)
        rewards = self._served.blocking().rewards(_prompts(prompt_or_messages, len(texts)), texts)
        return self._scores(rewards, isinstance(steps, str))

    def _scores(self, rewards: Sequence[Any], is_one: bool) -> list[float] | float:
        self.step_scores = [reward.step_scores for reward in rewards]
        scores = [reward.value_or(self._on_error) for reward in rewards]
        return scores[0] if is_one else scores


def _prompts(prompt_or_messages: Any, count: int) -> list[Text]:
    """One prompt per text."""
    if hasattr(prompt_or_messages, "to_chat_messages"):
        prompt_or_messages = prompt_or_messages.to_chat_messages()
    if isinstance(prompt_or_messages, list) and prompt_or_messages and isinstance(prompt_or_messages[0], list):
        return [_messages(conversation) for conversation in prompt_or_messages]
    return [_messages(prompt_or_messages)] * count


def _messages(conversation: Any) -> Text:
    if not isinstance(conversation, list):
        return conversation
    return [message.to_dict() if hasattr(message, "to_dict") else message for message in conversation]
