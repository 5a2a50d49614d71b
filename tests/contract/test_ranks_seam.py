"""A rank that is chosen where a pooling request is made reaches vLLM's choice of an engine."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from types import SimpleNamespace

import pytest
from vllm.engine.protocol import EngineClient
from vllm.pooling_params import PoolingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import DPLBAsyncMPClient

from vllm_prm.engine.serve.ranks import HEADER, RankHeader, follow_ranks


class Added(Exception):
    pass


@pytest.mark.parametrize("method", ["encode", "generate"])
def test_vllm_adds_requests_where_we_follow(method):
    """Of an AsyncLLM that was not made, the methods alone."""
    engine, given = object.__new__(AsyncLLM), {}
    engine.log_requests = False

    async def add_request(*args, **kwargs):
        given.update(kwargs)
        raise Added

    engine.add_request = add_request
    follow_ranks(engine)

    async def app(scope, receive, send):
        async for _ in getattr(engine, method)([1, 2], PoolingParams(task="embed"), "request-1"):
            pass

    with pytest.raises(Exception):  # noqa: B017, PT011 - vLLM puts its own around ours
        asyncio.run(RankHeader(app)({"type": "http", "headers": [(HEADER.lower().encode(), b"1")]}, None, None))
    assert given["data_parallel_rank"] == 1


def test_encode_takes_no_rank():
    """If it does, follow_ranks is not needed any more."""
    for owner in (AsyncLLM, EngineClient):
        assert "data_parallel_rank" not in inspect.signature(owner.encode).parameters


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_vllm_follows_the_rank_of_a_request(rank):
    engines = {"core_engines": [b"0", b"1", b"2"], "lb_engines": [[9, 9, 0.0]] * 3, "engine_inflight": Counter()}
    client = SimpleNamespace(reqs_in_flight={}, streaming_reqs=set(), **engines)
    fields = dict.fromkeys(EngineCoreRequest.__struct_fields__[:9])
    request = EngineCoreRequest(**{**fields, "request_id": "1", "data_parallel_rank": rank})
    assert DPLBAsyncMPClient.get_core_engine_for_request(client, request) == str(rank).encode()
