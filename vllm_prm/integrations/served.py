"""What the drop-ins share: one client for each address and process, and rewards from it in any event loop.

Stacks call a drop-in once per solution, from worker processes, thread pools and event loops of their own making, and
give it texts and a configuration file's values only. So the address and the key may come from the environment, and
clients are made when they are first asked and kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from vllm_prm.client import PRMClient
from vllm_prm.errors import PRMError, RequestError
from vllm_prm.recipes import Recipe
from vllm_prm.reward import AsyncRewardFunction, RewardFunction
from vllm_prm.reward.function import Split
from vllm_prm.scores import StepScores

URL_VARIABLE = "VLLM_PRM_URL"
_DIFFERENT = 16  # drop-ins in one process that differ in address or options; more than that is a mistake


class Served(NamedTuple):
    """Where a served PRM is, and how its step scores become rewards. Every drop-in takes these by name.

    url: the server's address; None takes VLLM_PRM_URL from the environment. model, api_key: as PRMClient, so a key of
    None takes VLLM_API_KEY. aggregate: how step scores become one number; None: the recipe's own way. split: what ends
    a step in a response, or a function from text to steps; None: as the recipe splits.
    """

    url: str | None = None
    model: str | None = None
    api_key: str | None = None
    aggregate: str | None = None
    split: Split = None

    def awaited(self) -> AsyncRewardFunction:
        """For code that awaits. Raises RequestError without an address and for unknown options; asks no one yet."""
        return _async_function(os.getpid(), *self._with_address())

    def blocking(self) -> RewardFunction:
        """For code that does not. Raises also PRMError, if the server cannot be asked for its recipe."""
        return _function(os.getpid(), *self._with_address())

    def _with_address(self) -> Served:
        url = self.url or os.environ.get(URL_VARIABLE)
        if not url:
            raise RequestError(
                f"where is the PRM served? Pass url='http://host:8000', or set {URL_VARIABLE} to it. Start a server "
                "with: VLLM_PLUGINS=prm vllm serve MODEL --task embed"
            )
        # The key that PRMClient would take, so that clients that differ in it are kept apart.
        return self._replace(url=url, api_key=self.api_key or os.environ.get("VLLM_API_KEY"))


class _InAnyLoop:
    """A PRMClient as AsyncRewardFunction asks it."""

    def __init__(self, client: PRMClient) -> None:
        self._client = client

    async def recipe(self) -> Recipe:
        return await self._client.awaited(lambda client: client.recipe())

    async def score_batch(
        self, items: Iterable[tuple[str, object]], *, on_error: Literal["raise", "return"], progress: bool
    ) -> list[StepScores | PRMError]:
        return await self._client.awaited(
            lambda client: client.score_batch(items, on_error=on_error, progress=progress)  # type: ignore[arg-type]
        )


# By process: what a fork inherits is its parent's.
@lru_cache(_DIFFERENT)
def _client(pid: int, url: str, model: str | None, api_key: str | None) -> PRMClient:
    return PRMClient(url, model, api_key)


@lru_cache(_DIFFERENT)
def _async_function(
    pid: int, url: str, model: str | None, api_key: str | None, aggregate: str | None, split: Split
) -> AsyncRewardFunction:
    return AsyncRewardFunction(_InAnyLoop(_client(pid, url, model, api_key)), aggregate, split)


@lru_cache(_DIFFERENT)
def _function(
    pid: int, url: str, model: str | None, api_key: str | None, aggregate: str | None, split: Split
) -> RewardFunction:
    return RewardFunction(_client(pid, url, model, api_key), aggregate, split)
