"""`vllm serve MODEL --task embed`, by a known name, asked over HTTP as users ask it."""

from __future__ import annotations

import random
import struct
from base64 import b64decode

import httpx
import openai
import pytest
from checkpoints import TAG
from conftest import running
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from server import serving

QUESTION = "Janet's ducks lay 16 eggs per day. Step 1: 16 - 3 = 13 ки\nStep 2: 13 - 4 = 9 ки"
LONGEST = 1024


@pytest.fixture(scope="module")
def prompts():
    rng = random.Random(1)
    return [prompt(rng, steps) for steps in (1, 2, 20)]


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint("mistral", called="math-shepherd-mistral-7b-prm")


@pytest.fixture(scope="module")
def offline(folder, prompts):
    """The same prompts, one at a time, through LLM.encode; shut down before the server starts."""
    options = {"hf_overrides": {"prm": "math-shepherd"}, "max_model_len": LONGEST}
    with running(folder, **options) as llm:
        asked = [QUESTION, *(tokens(ids) for ids in prompts)]
        return [llm.encode([ask], pooling_task="embed", use_tqdm=False)[0].outputs.data.tolist() for ask in asked]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "server.log"


@pytest.fixture(scope="module")
def url(folder, offline, log):
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(LONGEST), "--served-model-name", "prm"]
    with serving(log, folder, "--task", "embed", *options) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def embed(client, asked, **options):
    return [item.embedding for item in client.embeddings.create(model="prm", input=asked, **options).data]


def test_the_recipe_is_found_by_the_folders_name(url, log):
    assert "recipe math-shepherd): step tag 12902, scoring tokens [648, 387]" in log.read_text()


def test_offline_and_http_float_and_base64_agree_exactly(client, offline, prompts):
    for expected, ask in zip(offline, [QUESTION, *prompts], strict=True):
        (numbers,) = embed(client, ask, encoding_format="float")
        assert _tensor(numbers).tolist() == expected  # in float32: vLLM 0.33 prints no more digits than that has
        (text,) = embed(client, ask, encoding_format="base64")
        raw = b64decode(text)
        assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == expected
        assert embed(client, ask) == [expected]  # the client's own default: base64, decoded by it


def test_many_texts_and_many_token_lists_keep_their_order(client, folder, prompts):
    oracle = Oracle(folder)
    for found, ids in zip(embed(client, prompts), prompts, strict=True):
        assert difference(_tensor(found), oracle.scores(ids)) < TOLERANCE
    texts = ["no step", QUESTION, QUESTION + "\nStep 3: 9 * 2 = 18 ки"]
    assert [len(found) for found in embed(client, texts)] == [0, 2, 3]


def test_no_step_tag_gives_an_empty_list(client):
    for form in ("float", "base64"):
        assert len(embed(client, "no step here", encoding_format=form)[0]) == 0
    assert embed(client, "no step here") == [[]]


def test_pooling_route_gives_the_same_list(url, offline):
    (item,) = httpx.post(f"{url}/pooling", json={"model": "prm", "input": QUESTION}).json()["data"]
    assert item["data"] == offline[0]


def test_raw_logits(url, client, folder, prompts):
    body = {"model": "prm", "input": prompts[1], "use_activation": False, "encoding_format": "float"}
    (item,) = httpx.post(f"{url}/v1/embeddings", json=body).json()["data"]
    expected = Oracle(folder).logits(prompts[1]).flatten()
    assert difference(_tensor(item["embedding"]), expected) < 1e-4  # logits of size 10


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("", None),  # BOS alone: a prompt without steps
        ([], "You must pass at least one prompt"),
        ([[]], "prompt cannot be empty"),
        ([1, TAG] * LONGEST, f"maximum context length is {LONGEST}"),
        ([1, 32001], "Token id 32001 is out of vocabulary"),  # docs/versions.md: why not 32000, the first that is none
        ([-1], "out of vocabulary"),
    ],
)
def test_bad_input_gets_400_and_a_good_request_still_answers(client, offline, asked, message):
    if message is None:
        assert embed(client, asked) == [[]]
    else:
        with pytest.raises(openai.BadRequestError, match=message) as refused:
            embed(client, asked)
        assert refused.value.status_code == 400
        assert refused.value.body["code"] == 400  # vLLM's error object: message, type, param, code
        assert {"message", "type", "param"} <= set(refused.value.body)
    assert embed(client, QUESTION) == [offline[0]]


@pytest.mark.parametrize(
    "body", [{"input": QUESTION, "dimensions": 2}, {"prompt_embeds": "AAAA"}, {"input": {"a": 1}}, {"input": 3}]
)
def test_bodies_that_make_no_sense_get_400(url, client, offline, body):
    answer = httpx.post(f"{url}/v1/embeddings", json={"model": "prm", **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert embed(client, QUESTION) == [offline[0]]


def _tensor(values):
    import torch

    return torch.tensor(values)
