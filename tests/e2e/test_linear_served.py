"""A PRM with a linear head on a server, known by its name: the routes, the client, and a search over prefixes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import httpx
import other_heads
import pytest
import vocabularies
from collector import collecting
from conftest import ROOT
from oracle import TOLERANCE
from prompt_oracles import pure
from server import serving

from vllm_prm import PRMClient
from vllm_prm.engine.serve.ending import WORDS

sys.path.append(str(ROOT / "benchmarks"))
from faults.server import listener  # noqa: E402 - benchmarks are no package

QUESTION = "What is 2 + 3 * 4 - 1, written as a number? Think about which operation comes first."
STEPS = ["3 * 4 = 12", "2 + 12 = 14", "14 - 1 = 13. The answer is: 13"]
VOCABULARY = 151680


@pytest.fixture(scope="module")
def collector():
    with collecting() as traces:
        yield traces


@pytest.fixture(scope="module")
def served(tmp_path_factory, collector):
    folder = tmp_path_factory.mktemp("linear") / "PURE-PRM-7B"
    logits = other_heads.token_classes(folder, vocabularies.qwen25(), vocabulary=VOCABULARY, bias=4.0)
    options = ("--task", "embed", "--dtype", "float32", "--block-size", "32", "--enforce-eager")
    traced = ("--otlp-traces-endpoint", collector.url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_PLUGINS", "prm")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")  # milliseconds
        with serving(tmp_path_factory.mktemp("log") / "linear.log", str(folder), *options, *traced) as url:
            yield url, logits


def rewards(logits, steps):
    """PURE's p1 - p0 of each step."""
    for read in pure(QUESTION, steps, vocabularies.qwen25()):
        bad, good = logits(list(read.seen))[-1].softmax(-1).tolist()
        yield good - bad


def test_the_rewards_of_the_source_with_reuse(served):
    url, logits = served
    expected = [*rewards(logits, STEPS)]
    assert min(expected) < 0, "a random head that finds no step wrong shows nothing of the threshold"
    with PRMClient(url) as prm:
        for count in (1, 2, 3, 3):
            result = prm.score(QUESTION, STEPS[:count])
            assert result.step_scores == pytest.approx(expected[:count], abs=TOLERANCE)
        assert result.num_cached_tokens >= 64
        assert result.first_error() == next(i for i, reward in enumerate(expected) if reward < 0)


def test_the_routes(served):
    url, logits = served
    expected = [*rewards(logits, STEPS)]
    body = {"question": QUESTION, "steps": STEPS}
    (answer,) = httpx.post(f"{url}/v1/prm/score", json=body, timeout=60).json()["data"]
    assert answer["step_scores"] == pytest.approx(expected, abs=TOLERANCE)
    assert answer["first_error"] == next(i for i, reward in enumerate(expected) if reward < 0)
    ids = list(pure(QUESTION, STEPS, vocabularies.qwen25())[-1].seen)
    embedded = httpx.post(f"{url}/v1/embeddings", json={"input": ids}, timeout=60).json()["data"][0]["embedding"]
    assert embedded == pytest.approx(expected, abs=TOLERANCE)
    recipe = httpx.get(f"{url}/v1/prm/recipe", timeout=60).json()
    assert recipe["labels"] == ["bad", "good"]
    assert recipe["weights"] == [-1.0, 1.0]


def test_a_trace_names_our_requests_and_shows_their_planning(served, collector):
    """In the trace that the caller began, with the ids that stand in vLLM's log."""
    url, _ = served
    trace, name = "0af7651916cd43dd8448eb211c80319c", "search-17"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-Id": name}
    body = {"question": QUESTION, "candidates": [STEPS, STEPS[:2]]}
    answer = httpx.post(f"{url}/v1/prm/score", json=body, headers=headers, timeout=60).json()
    spans = collector.of_trace(trace, 4)
    planned = {own["gen_ai.request.id"]: own for span, own in spans if span == "prm_planning"}
    asked = {own["gen_ai.request.id"]: own for span, own in spans if span == "llm_request"}
    assert len(planned) == len(asked) == 2
    for (planned_id, plan), (asked_id, ask) in zip(sorted(planned.items()), sorted(asked.items()), strict=True):
        assert planned_id.startswith(f"prm-{name}-")
        assert asked_id.startswith(f"{planned_id}-")
        assert plan["gen_ai.usage.prompt_tokens"] == ask["gen_ai.usage.prompt_tokens"]
    tokens = sum(plan["gen_ai.usage.prompt_tokens"] for plan in planned.values())
    assert tokens == answer["usage"]["prompt_tokens"]


def test_a_server_that_is_told_to_end_answers_everybody(served):
    """The last of this file. vLLM alone leaves some of those who wait without an answer, and waits for them to go."""
    url, _ = served
    clients, soon_s = 48, 15

    async def client(http, number):
        statuses = []
        while not statuses or statuses[-1] == 200:
            body = {"question": f"{number} {len(statuses)} {QUESTION}", "candidates": [STEPS * 8, STEPS, STEPS[:1]]}
            answer = await http.post(f"{url}/v1/prm/score", json=body)
            statuses.append(answer.status_code)
        return answer

    async def told_to_end():
        async with httpx.AsyncClient(timeout=soon_s, limits=httpx.Limits(max_connections=clients)) as http:
            asking = [asyncio.create_task(client(http, number)) for number in range(clients)]
            await asyncio.sleep(2)
            os.kill(listener(url), signal.SIGTERM)
            return await asyncio.gather(*asking, return_exceptions=True)

    ends = asyncio.run(told_to_end())
    assert not [end for end in ends if isinstance(end, httpx.TimeoutException)], "no answer, and nobody hung up"
    answers = [end for end in ends if not isinstance(end, httpx.TransportError)]  # who came later found nobody
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"]["message"] for answer in answers} == {WORDS}
