"""What PRM.close() relies on, so that a process that is done does not abort while Python exits."""

from __future__ import annotations

import inspect

from vllm.v1.engine.core_client import SyncMPClient


def test_the_thread_that_receives_answers_is_where_we_look_for_it():
    source = inspect.getsource(SyncMPClient.__init__)
    assert "self.output_queue_thread = Thread(" in source, (
        "vLLM's SyncMPClient keeps its thread for answers under another name: _stop of engine/serve/offline.py "
        "no longer waits for it, and a script with a PRM may abort when it exits"
    )
