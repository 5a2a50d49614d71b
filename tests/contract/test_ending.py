"""What a server of ours relies on to answer everybody when it is told to end."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor

from vllm_prm.engine.serve.ending import Ending


def test_all_that_wait_hear_of_the_engines_end():
    """Of an OutputProcessor that was not made, the method alone. vLLM calls `shutdown` in a thread."""
    told, called = [], []
    processor = object.__new__(OutputProcessor)
    processor.request_states = {str(n): SimpleNamespace(queue=SimpleNamespace(put=told.append)) for n in range(3)}
    engine = SimpleNamespace(output_processor=processor, shutdown=lambda timeout: called.append(timeout))

    async def served():
        ending = Ending(engine)
        assert not ending.begun
        ended = threading.Thread(target=engine.shutdown, kwargs={"timeout": 7})
        ended.start()
        await asyncio.to_thread(ended.join)
        await asyncio.sleep(0)
        assert ending.begun

    asyncio.run(served())
    assert called == [7]
    assert [type(error) for error in told] == [EngineDeadError] * 3
