"""search-and-learn: `ServedPRM`, the PRM of its best-of-n, beam search and DVTS.

Read in huggingface/search-and-learn, `src/sal/models/reward_models.py` (class PRM, at commit 027a727e): `score` gets
questions and, for each, the texts of its solutions, and gives the step scores of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.integrations.served import Served
from vllm_prm.reward.function import Split


class ServedPRM:
    """As sal's `PRM`; search_config is its, and not used. The keywords are those of `Served`.

    on_error: the one step score of a text that cannot be scored, because sal aggregates what it gets; None: 0.
    """

    def __init__(
        self,
        search_config: Any = None,
        *,
        url: str | None = None,
        model: str | None = None,
        api_key: str | None = None,
        split: Split = None,
        on_error: float | None = None,
    ) -> None:
        self._served = Served(url, model, api_key, split=split)
        self._on_error = 0.0 if on_error is None else on_error

    def score(self, questions: Sequence[str], outputs: Sequence[Sequence[str]]) -> list[list[list[float]]]:
        """[questions][solutions][steps]. Raises RequestError for unequal numbers, PRMError if the server fails."""
        if len(questions) != len(outputs):
            raise RequestError(
                f"{len(questions)} questions and {len(outputs)} lists of outputs; expected one list for each question"
            )
        pairs = [(question, text) for question, texts in zip(questions, outputs, strict=True) for text in texts]
        rewards = iter(self._served.blocking().rewards([q for q, _ in pairs], [text for _, text in pairs]))
        return [[list(next(rewards).step_scores) or [self._on_error] for _ in texts] for texts in outputs]
