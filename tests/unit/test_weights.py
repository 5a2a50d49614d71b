"""What was read is forgotten when the engine's weights may have changed, and not before the change is done."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from vllm_prm.engine.serve.weights import forget_on_changes
from vllm_prm.prompts import Prompt
from vllm_prm.prompts.reads import PromptReads, ReadMemory

PROMPT = Prompt((1, 2), (1,))


class Engine:
    def __init__(self, memory):
        self.memory = memory

    def reset_prefix_cache(self, *, running=False):
        assert known(self.memory), "forgotten before the change was done"
        return ("reset", running)

    async def sleep(self, level=1):
        await asyncio.sleep(0)
        assert known(self.memory), "forgotten before the change was done"
        return ("asleep", level)

    def collective_rpc(self, method):
        raise RuntimeError(method)

    def generate(self):
        return "text"


def read(memory):
    reads = PromptReads(PROMPT, "m", memory)
    for missing in reads.missing:
        reads.take(missing, np.zeros(2, np.float32), 2)
    reads.result()


def known(memory):
    return not PromptReads(PROMPT, "m", memory).missing


@pytest.fixture
def engine():
    memory = ReadMemory()
    engine = Engine(memory)
    forget_on_changes(engine, memory)
    read(memory)
    return engine


def test_a_reset(engine):
    assert engine.reset_prefix_cache(running=True) == ("reset", True)
    assert not known(engine.memory)


def test_sleep(engine):
    assert asyncio.run(engine.sleep(level=2)) == ("asleep", 2)
    assert not known(engine.memory)


def test_a_change_that_fails_may_have_changed_something(engine):
    with pytest.raises(RuntimeError, match="load"):
        engine.collective_rpc("load")
    assert not known(engine.memory)


def test_other_methods_and_engines_are_left_alone(engine):
    assert engine.generate() == "text"
    assert known(engine.memory)
    assert "reset_prefix_cache" not in vars(Engine(engine.memory))
