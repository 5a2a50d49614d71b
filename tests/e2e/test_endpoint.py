"""Our routes on a real `vllm serve`, asked by our clients, by plain HTTP, and by requests that make no sense."""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64decode

import httpx
import numpy as np
import pytest
from adapters import RANK, adapter, oracle_with
from browser import REMEDY, browser
from conftest import ROOT, TINY_PRM
from opened_page import opened
from oracle import TOLERANCE, Oracle
from score_requests import BAD_CONTENTS, BAD_REWARDS, BAD_SCORES, ONE, QUESTION, RIGHT, WRONG
from server import hangs_up
from tiny_server import (
    BLOCK,
    KEY,
    LONGEST,
    RECIPE,
    SOLUTIONS,
    ask,
    ids,
    long_inputs,
    metric,
    prompt_of,
    started,
    still_answers,
)

from vllm_prm.client import AsyncPRMClient, PRMClient
from vllm_prm.errors import BatchError, PRMError, RequestError

SCORING = (332, 333)
ENCODINGS = ("float", "base64")
# Matrices [out, in] of the tiny PRM's backbone.
ADAPTED = {
    f"model.layers.{layer}.{name}": size
    for layer in (0, 3)
    for name, size in (("self_attn.q_proj", (128, 128)), ("mlp.down_proj", (128, 192)))
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("endpoint")


@pytest.fixture(scope="module")
def adapted(folder):
    """transformers with the adapter that the server has as "adapted"."""
    return oracle_with(TINY_PRM, folder / "merged", adapter(folder / "adapter", 1, ADAPTED))


@pytest.fixture(scope="module")
def url(folder, adapted):
    # A slot more than adapters: see cautions.py.
    lora = ["--enable-lora", "--max-loras", "2", "--max-lora-rank", str(RANK)]
    with started(folder / "server.log", *lora, "--lora-modules", f"adapted={folder / 'adapter'}") as url:
        yield url


@pytest.fixture(scope="module")
def http(url):
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120) as http:
        yield http


@pytest.fixture(scope="module")
def client(url):
    with PRMClient(url, api_key=KEY) as client:
        yield client


def test_the_client_gives_what_embeddings_give_and_keeps_the_order(http, client):
    results = client.score_batch(SOLUTIONS, progress=False)
    prompts = [ids(*one) for one in SOLUTIONS]
    answer = http.post("/v1/embeddings", json={"model": "tiny", "input": prompts, "encoding_format": "float"})
    for result, prompt, (_, steps), item in zip(results, prompts, SOLUTIONS, answer.json()["data"], strict=True):
        assert len(result) == len(steps)
        assert np.abs(np.array(result.step_scores) - item["embedding"]).max() < 1e-6
        assert result.num_prompt_tokens == len(prompt)
        assert result.labels == RECIPE.labels


def test_what_curl_sees(http):
    answer = ask(http, model="tiny", question=QUESTION, steps=WRONG)
    (entry,) = answer["data"]
    assert answer["id"].startswith("prm-")
    assert (answer["object"], answer["model"], answer["aggregate"]) == ("list", "tiny", "min")
    assert abs(answer["created"] - time.time()) < 60
    assert "best" not in answer
    assert set(entry) == {
        "index", "object", "step_scores", "score", "first_error", "num_prompt_tokens", "num_cached_tokens",
    }  # fmt: skip
    assert (entry["index"], entry["object"], entry["first_error"]) == (0, "prm.score", 1)
    assert entry["score"] == min(entry["step_scores"])
    assert entry["step_scores"][0] > 0.9
    assert entry["step_scores"][1] < 0.1


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("min", min),
        ("product", np.prod),
        ("mean", np.mean),
        ("last", lambda scores: scores[-1]),
        ("sum_log", lambda scores: np.log(scores).sum()),
    ],
)  # fmt: skip
def test_every_aggregation(http, how, number):
    answer = ask(http, question=QUESTION, steps=RIGHT, aggregate=how)
    assert answer["aggregate"] == how
    assert answer["data"][0]["score"] == pytest.approx(number(answer["data"][0]["step_scores"]), abs=1e-12)


def test_probabilities_and_logits(http, client):
    found = client.score(QUESTION, RIGHT)
    for what in ("probabilities", "logits"):
        (entry,) = ask(http, question=QUESTION, steps=RIGHT, **{"return": what})["data"]
        assert entry[what] == [list(row) for row in getattr(found, what)]
        assert tuple(entry["step_scores"]) == found.step_scores
    assert np.float32(found.logits[0][0]) == found.logits[0][0]


def test_base64_holds_the_same_numbers_in_float32(http):
    inputs = [{"question": question, "steps": steps} for question, steps in SOLUTIONS[:3]]
    inputs.insert(1, {"question": QUESTION, "steps": []})
    for what in ("probabilities", "logits"):
        answers = [ask(http, inputs=inputs, **{"return": what}, encoding_format=form)["data"] for form in ENCODINGS]
        for numbers, text in zip(*answers, strict=True):
            assert numbers["object"] == text["object"]
            if numbers["object"] == "error":
                continue
            assert isinstance(text[what], str)
            floats = np.frombuffer(b64decode(text[what]), "<f4").reshape(-1, len(SCORING))
            expected = np.array(numbers[what])
            assert floats.shape == expected.shape
            assert np.abs(floats - expected).max() < 1e-5  # the two requests met other prompts in their batches
            assert text["step_scores"] == pytest.approx(numbers["step_scores"], abs=1e-6)
    assert set(ask(http, **ONE, encoding_format="base64")["data"][0]) == set(ask(http, **ONE)["data"][0])


def test_an_answer_of_very_many_steps(http):
    answer = ask(http, inputs=long_inputs(100), **{"return": "logits"})
    assert sum(len(entry["logits"]) for entry in answer["data"]) > 1000
    for entry in answer["data"]:
        assert len(entry["logits"]) == len(entry["step_scores"])


def test_candidates_and_rank(http, client):
    answer = ask(http, question=QUESTION, candidates=[WRONG, RIGHT])
    assert answer["best"] == 1
    ranking = client.rank(QUESTION, [WRONG, RIGHT])
    assert (ranking.best, ranking.order) == (1, (1, 0))
    assert [entry["score"] for entry in answer["data"]] == list(ranking.scores)


def test_a_bad_solution_costs_only_itself(http, client):
    broken = [{"question": QUESTION, "steps": []}, {"question": QUESTION, "steps": [3]}, 7]
    broken += [{"question": QUESTION, "steps": ["1 + 1 = 2"] * 10_000}, {"question": "q", "step": ["a"]}]
    answer = ask(http, inputs=[{"question": QUESTION, "steps": RIGHT}, *broken, {"question": QUESTION, "steps": WRONG}])
    assert [entry["object"] for entry in answer["data"]] == ["prm.score", *["error"] * 5, "prm.score"]
    assert [entry["index"] for entry in answer["data"]] == list(range(7))
    assert all(entry["error"]["code"] == 400 for entry in answer["data"][1:6])
    assert answer["data"][2]["error"]["param"] == "steps.0"
    alone = [client.score(QUESTION, steps) for steps in (RIGHT, WRONG)]
    for entry, result in zip((answer["data"][0], answer["data"][-1]), alone, strict=True):
        assert tuple(entry["step_scores"]) == pytest.approx(result.step_scores, abs=1e-6)
    assert answer["usage"]["prompt_tokens"] == sum(result.num_prompt_tokens for result in alone)
    answer = ask(http, question=QUESTION, candidates=[[], RIGHT, ["a", 3]])
    assert answer["best"] == 1
    assert ask(http, question=QUESTION, candidates=[[]])["best"] is None


def test_a_bad_item_of_the_clients_batch(client):
    items = [(QUESTION, RIGHT), (QUESTION, []), {"question": QUESTION, "steps": WRONG}, (QUESTION, ["x"] * 10_000)]
    results = client.score_batch(items, on_error="return", progress=False)
    assert [isinstance(result, RequestError) for result in results] == [False, True, False, True]
    assert results[2].first_error() == 1
    with pytest.raises(BatchError) as failed:
        client.score_batch(items, progress=False)
    assert set(failed.value.errors) == {1, 3}
    assert failed.value.results[0].step_scores == pytest.approx(results[0].step_scores, abs=1e-6)


def test_usage_and_cached_tokens(http):
    steps = [f"{n} + 5 = {n + 5}" for n in range(12)]
    length = len(ids("Tom has 3 eggs. How many now?", steps))
    assert length > 3 * BLOCK
    for cached in (0, (length - 1) // BLOCK * BLOCK):  # whole blocks, and never the last token
        answer = ask(http, question="Tom has 3 eggs. How many now?", steps=steps)
        assert answer["data"][0]["num_cached_tokens"] == cached
        assert answer["data"][0]["num_prompt_tokens"] == length
        assert answer["usage"] == {
            "prompt_tokens": length, "total_tokens": length, "prompt_tokens_details": {"cached_tokens": cached},
        }  # fmt: skip
        assert len(answer["data"][0]["step_scores"]) == 12


def test_prompts_route_says_what_is_read(http):
    expected = prompt_of(QUESTION, RIGHT)
    for solution in ({"steps": RIGHT}, {"solution": "\n".join(RIGHT)}, {"solution": " ки\n".join(RIGHT)}):
        answer = http.post("/v1/prm/prompts", json={"question": QUESTION, **solution}).raise_for_status().json()
        assert answer["steps"] == RIGHT
        (prompt,) = answer["prompts"]
        assert prompt["token_ids"] == list(expected.token_ids)
        assert prompt["positions"] == list(expected.positions)
        assert [prompt["tokens"][position] for position in prompt["positions"]] == [" ки"] * len(RIGHT)
        assert "".join(prompt["tokens"]).startswith(f"<s> {QUESTION} Step 1: {RIGHT[0]} ки")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"question": QUESTION}, "give exactly one of steps and solution; found neither"),
        ({**ONE, "solution": "1"}, "give exactly one of steps and solution; found both"),
        ({"question": QUESTION, "solution": " "}, "there is no step"),
        ({"question": QUESTION, "steps": [" "]}, "step 1 of 1 is empty"),
        ({"question": QUESTION, "steps": ["x " * LONGEST]}, f"takes {LONGEST}"),
    ],
)
def test_prompts_route_refuses(http, body, message):
    answer = http.post("/v1/prm/prompts", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


@pytest.mark.skipif(browser() is None, reason=f"there is no browser: {REMEDY}")
def test_the_page_asks_for_the_key(url, tmp_path):
    with opened(tmp_path) as page:
        page.open(f"{url}/prm")
        page.until("document.getElementById('key').checkVisibility()")
        assert "enter the server's API key" in page.text()
        for key, text in (("wrong", "does not know this API key"), (KEY, "recipe tiny-prm")):
            page.write("#key-text", key)
            page.click("#key button")
            page.until(f"document.querySelector('header').textContent.includes({json.dumps(text)})")
        assert not page.get("document.getElementById('key').checkVisibility()")
        page.write("#question", QUESTION)
        page.write("#solution-0", "\n".join(WRONG))
        page.click("#score")
        page.until("document.body.dataset.done")
        assert "first error: step 2" in page.text()


def test_metrics_count_what_is_scored_and_what_is_refused(http):
    names = ["solutions_total", "steps_total", "prompt_tokens_total", "cached_tokens_total", "planned_total"]
    names += ["planning_seconds_count", 'refused_total{reason="input"}', 'refused_total{reason="vllm"}']

    def figures():
        return [metric(http, f"prm_{name}") for name in names]

    before = figures()
    steps = [*RIGHT, "12 + 1 = 13"]
    first = ask(http, question=QUESTION, candidates=[steps, RIGHT, [" "], ["x " * LONGEST]])
    ask(http, question=QUESTION, steps=steps)
    solutions, num_steps, tokens, cached, planned, batches, refused, by_vllm = (
        now - then for now, then in zip(figures(), before, strict=True)
    )
    assert (solutions, num_steps, refused, by_vllm) == (3, 2 * len(steps) + len(RIGHT), 2, 0)
    sent = [len(ids(QUESTION, one)) for one in (steps, RIGHT, steps)]
    assert tokens == sum(sent)
    assert cached == first["usage"]["prompt_tokens_details"]["cached_tokens"] + (sent[0] - 1) // BLOCK * BLOCK
    assert planned == 5
    assert 2 <= batches <= 5


def test_the_dashboard_asks_for_figures_that_exist(http):
    dashboard = json.loads((ROOT / "examples" / "grafana.json").read_text("utf-8"))
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    names = {*re.findall(r"(?:prm_|vllm:)\w+", queries)}
    assert len(names) >= 9
    ask(http, 400, question=QUESTION, steps=[" "])  # a figure with labels has no line before its first event
    page = http.get("/metrics").text
    assert [name for name in sorted(names) if not re.search(rf"^{name}\b", page, re.MULTILINE)] == []


def test_recipe_route(http, client):
    answer = http.get("/v1/prm/recipe").json()
    assert answer["model"] == "tiny"
    assert answer["max_model_len"] == LONGEST
    assert answer["step_tag_ids"] == [[318]]
    assert answer["scoring_token_ids"] == list(SCORING)
    assert answer["labels"] == ["good", "bad"]
    assert answer["weights"] == [1.0, 0.0]
    assert answer["aggregation"] == "min"
    assert answer["recipe"]["source"] == "examples/train_tiny_prm.py"
    assert client.recipe == RECIPE


def test_openrlhfs_request(http, client):
    text = "\n".join(f"Step {k}: {step}" for k, step in enumerate(WRONG, 1))
    body = {
        "query": [f"<s>{QUESTION} {text}</s>", f"{QUESTION}\n{text}"],
        "prompts": [QUESTION] * 2,
        "labels": ["12"] * 2,
    }
    answer = http.post("/get_reward", json=body).json()
    expected = client.score(QUESTION, WRONG)
    for i in range(2):
        assert answer["rewards"][i] == answer["scores"][i] == pytest.approx(min(expected.step_scores), abs=1e-6)
        assert answer["step_scores"][i] == pytest.approx(expected.step_scores, abs=1e-6)
    assert answer["extra_logs"]["prm_steps"] == [3, 3]
    assert answer["errors"] == {}
    last = http.post("/get_reward?aggregate=last", json=body).json()
    assert last["rewards"][0] == pytest.approx(expected.step_scores[-1], abs=1e-6)
    logs = http.post("/get_reward?aggregate=sum_log", json=body).json()
    assert logs["rewards"][0] == pytest.approx(np.log(expected.step_scores).sum(), abs=1e-3)
    assert logs["scores"][0] == pytest.approx(np.prod(expected.step_scores), abs=1e-6)


def test_openrlhfs_request_without_prompts_scores_the_tags_in_the_text(http):
    text = f"{QUESTION} " + "\n".join(f"Step {k}: {step} ки" for k, step in enumerate(WRONG, 1))
    answer = http.post("/get_reward", json={"query": [text]}).json()
    (item,) = http.post("/v1/embeddings", json={"input": text, "encoding_format": "float"}).json()["data"]
    assert answer["step_scores"][0] == pytest.approx(item["embedding"], abs=1e-6)
    assert answer["rewards"] == [pytest.approx(min(item["embedding"]), abs=1e-6)]


def test_a_query_that_cannot_be_scored(http):
    body = {"query": [f"{QUESTION} Step 1: 12 + 5 = 17", QUESTION], "prompts": [QUESTION, QUESTION]}
    refused = http.post("/get_reward", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("query 1: ")
    assert "on_error=0" in refused.json()["error"]["message"]
    answer = http.post("/get_reward?on_error=-1", json=body).json()
    assert answer["rewards"][1] == -1
    assert answer["rewards"][0] > 0.5
    assert answer["step_scores"][1] == []
    assert list(answer["errors"]) == ["1"]
    assert answer["extra_logs"]["prm_unscored"] == [0, 1]
    still_answers(http)


@pytest.mark.parametrize(("body", "message"), BAD_REWARDS)
def test_bad_reward_requests(http, body, message):
    answer = http.post("/get_reward", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    still_answers(http)


@pytest.mark.parametrize(("query", "message"), [("aggregate=max", "'sum_log'"), ("on_error=nan", "finite number")])
def test_bad_reward_options(http, query, message):
    answer = http.post(f"/get_reward?{query}", json={"query": ["a ки"]})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/prm/score"),
        ("POST", "/v1/prm/prompts"),
        ("GET", "/v1/prm/recipe"),
        ("POST", "/get_reward"),
        ("POST", "/get_reward/"),
        ("POST", "/worker_value_inference"),
    ],
)
def test_the_api_key_guards_every_route(url, method, path, headers):
    body = {"content": "{nonsense"} if method == "POST" else {}
    assert httpx.request(method, url + path, headers=headers, **body).status_code == 401


def test_a_client_with_a_wrong_key_is_told_so(url, monkeypatch):
    with PRMClient(url, api_key="wrong") as client, pytest.raises(PRMError, match="refused the API key"):
        client.score(QUESTION, RIGHT)
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with PRMClient(f"{url}/v1/") as client:
        assert client.score(QUESTION, WRONG).first_error() == 1


def test_openapi_page(http):
    page = http.get("/openapi.json").json()
    stacks = [("post", path) for path in ("/get_reward", "/remote_rm", "/worker_value_inference")]
    ours = [("post", "/v1/prm/score"), ("post", "/v1/prm/prompts"), ("get", "/v1/prm/recipe"), *stacks]
    for method, path in ours:
        route = page["paths"][path][method]
        assert route["tags"] == ["process reward model"]
        assert route["summary"]
        assert {"200", "400", "401", "404"} <= set(route["responses"])
        if method == "post":
            content = route["requestBody"]["content"]["application/json"]
            assert content["schema"]["$ref"].endswith("Request")
            for example in content["examples"].values():
                assert http.post(path, json=example["value"]).status_code == 200
    schemas = page["components"]["schemas"]
    assert schemas["ScoreRequest"]["properties"]["encoding_format"]["enum"] == list(ENCODINGS)
    assert {"type": "string"} in schemas["Score"]["properties"]["logits"]["anyOf"]
    assert page["paths"]["/v1/embeddings"]
    assert http.get("/docs").status_code == 200


@pytest.mark.parametrize(("body", "message", "param"), BAD_SCORES)
def test_a_bad_request_gets_400_with_a_sentence(http, body, message, param):
    answer = http.post("/v1/prm/score", json=body)
    assert answer.status_code == 400, answer.text[:500]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]
    assert len(error["message"]) < 1000
    assert "{'type'" not in error["message"]
    assert error["param"] == param
    assert error["code"] == 400
    still_answers(http)


@pytest.mark.parametrize(("content", "kind", "message"), BAD_CONTENTS)
def test_a_body_that_is_no_request(http, content, kind, message):
    answer = http.post("/v1/prm/score", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text[:500]
    assert message in answer.json()["error"]["message"]
    still_answers(http)


def test_which_step_no_longer_fits(http):
    message = ask(http, 400, question=QUESTION, steps=["1 + 1 = 2"] * 10_000)["error"]["message"]
    assert re.search(r"step \d+", message)
    assert str(LONGEST) in message


def test_models(http, url):
    refused = ask(http, 404, model="other", question=QUESTION, steps=RIGHT)["error"]
    assert refused["type"] == "NotFoundError"
    assert refused["message"].startswith("The model `other` does not exist.")
    with (
        PRMClient(url, model="other", api_key=KEY) as client,
        pytest.raises(PRMError, match="`other` does not") as failed,
    ):
        client.score(QUESTION, RIGHT)
    assert not isinstance(failed.value, RequestError)  # no item is at fault: nobody may go on without scores
    with PRMClient(url, model="tiny", api_key=KEY, priority=5) as client:
        assert client.score(QUESTION, WRONG).first_error() == 1


def test_a_lora_adapter_by_its_name(http, url, client, adapted):
    """Asked by turns, so the prefix cache holds the same prompt by the other model: neither may read the other's."""
    base, prompts = Oracle(TINY_PRM), [prompt_of(*solution) for solution in SOLUTIONS[:8]]
    with PRMClient(url, model="adapted", api_key=KEY) as other:
        for _ in range(2):
            for asked, oracle in ((client, base), (other, adapted)):
                results = asked.score_batch(SOLUTIONS[:8], progress=False)
                for prompt, found in zip(prompts, results, strict=True):
                    logits = oracle.logits_at(list(prompt.token_ids), list(prompt.positions), SCORING)
                    assert np.abs(np.array(found.probabilities) - logits.softmax(-1).numpy()).max() < TOLERANCE
        apart = np.array(other.score(QUESTION, WRONG).step_scores) - client.score(QUESTION, WRONG).step_scores
        assert np.abs(apart).max() > 100 * TOLERANCE, "the adapter makes no difference"
    assert ask(http, model="adapted", question=QUESTION, steps=RIGHT)["model"] == "adapted"
    assert ask(http, question=QUESTION, steps=RIGHT)["model"] == "tiny"


def test_the_request_id_is_the_callers(http):
    answer = http.post("/v1/prm/score", json=ONE, headers={"X-Request-Id": "mine"}).json()
    assert answer["id"] == "prm-mine"


def test_the_async_client_gives_the_same(url, client):
    async def everything():
        async with AsyncPRMClient(url, api_key=KEY, max_concurrency=3) as prm:
            one = await prm.score(*SOLUTIONS[0])
            ranking = await prm.rank(QUESTION, [WRONG, RIGHT])
            return one, ranking, await prm.score_batch(SOLUTIONS, progress=False), await prm.recipe()

    one, ranking, batch, recipe = asyncio.run(everything())
    assert recipe == client.recipe
    assert ranking.best == 1
    expected = client.score_batch(SOLUTIONS, progress=False)
    assert one.step_scores == pytest.approx(expected[0].step_scores, abs=1e-6)
    for found, result in zip(batch, expected, strict=True):
        assert found.step_scores == pytest.approx(result.step_scores, abs=1e-6)


def test_the_reward_function(client):
    text = "\n".join(f"Step {k}: {step}" for k, step in enumerate(WRONG, 1))
    rewards = client.reward_fn()(prompts=[QUESTION, QUESTION], completions=[text, ""])
    assert rewards == [pytest.approx(min(client.score(QUESTION, WRONG).step_scores), abs=1e-6), None]


def test_a_caller_who_leaves_takes_the_requests_back(http, url):
    inputs = long_inputs(3000)
    done = 'vllm:request_success_total{engine="0",finished_reason="stop"'
    before = metric(http, done)
    address, headers = f"{url}/v1/prm/score", {"Authorization": f"Bearer {KEY}"}
    assert hangs_up(address, {"inputs": inputs}, lambda: metric(http, done) > before, headers)
    deadline = time.monotonic() + 20
    while (waiting := metric(http, "vllm:num_requests_waiting{") + metric(http, "vllm:num_requests_running{")) > 0:
        assert time.monotonic() < deadline, f"{waiting} requests are still there"
        time.sleep(0.5)
    scored = metric(http, done) - before
    assert 0 < scored < len(inputs)  # some were under way when the caller left, and the rest never came
    time.sleep(1)
    assert metric(http, done) - before == scored
    still_answers(http)
