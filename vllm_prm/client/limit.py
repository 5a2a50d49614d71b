"""Limit: how many solutions are under way at once, over all calls of a client.

The invariant: shares that are taken never sum up to more than the limit, and whoever waits longest is next, so a large
share is not passed by small ones for ever.
"""

from __future__ import annotations

import asyncio


class Limit:
    """A semaphore whose shares may be larger than 1. Lives in one event loop. limit: 1 or more."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._turn = asyncio.Lock()  # one at a time collects its share: two halves would wait for each other

    async def take(self, share: int) -> None:
        """Wait for `share` places, at most the limit, and take them; none if this is cancelled."""
        taken = 0
        async with self._turn:
            try:
                while taken < share:
                    await self._free.acquire()
                    taken += 1
            except BaseException:
                self.give_back(taken)
                raise

    def give_back(self, share: int) -> None:
        for _ in range(share):
            self._free.release()
