"""What becomes of requests when the server is told to end (SIGTERM, SIGINT): each is answered, none is left waiting.

vLLM shuts its engine down and then waits for the requests that are under way. Those whose answers the engine took with
it wait for ever (0.29 to 0.33): `AsyncLLM.shutdown` cancels the task that would hand them the engine's death, and that
task tells of exceptions only. Remove when vLLM does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from vllm.v1.engine.exceptions import EngineDeadError

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient

logger = logging.getLogger("vllm.vllm_prm")

WORDS = "this server is shutting down; ask again when it is back, or ask another one"


class Ending:
    """Whether the server's engine was told to end. Made on the event loop; one per engine."""

    def __init__(self, engine: EngineClient) -> None:
        self.begun = False
        self._engine: Any = engine
        self._loop = asyncio.get_running_loop()
        self._shutdown = self._engine.shutdown
        self._engine.shutdown = self._end

    def _end(self, *args: Any, **kwargs: Any) -> None:
        """`AsyncLLM.shutdown`, and then the news for all that wait for the engine. vLLM calls it in a thread."""
        self.begun = True
        try:
            self._shutdown(*args, **kwargs)
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        """From here on the engine counts as dead, so who comes later is refused by vLLM itself."""
        try:
            self._engine.output_processor.propagate_error(EngineDeadError())
        except Exception:  # a server that ends must go on ending
            logger.warning("vllm-prm could not end the requests that are under way", exc_info=True)
