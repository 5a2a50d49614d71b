"""A server that generates text, with our routes: a recipe, an adapter, and completions beside them."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
import transformers
from adapters import RANK, adapter
from conftest import TINY_PRM
from documentation import SERVER, run_block
from oracle import Oracle
from prompt_oracles import JUDGE_ASKS
from server import serving
from tiny_server import SHARES, SOLUTIONS, shares_of_solutions
from transformers import AutoTokenizer

from vllm_prm import PRM, EngineError, PRMClient, RecipeError, RequestError, load_recipe

RECIPE = TINY_PRM + "/prm.json"
BACKBONE = {f"model.layers.{layer}.self_attn.q_proj": (128, 128) for layer in range(5)}
GREEDY = {"prompt": "Mia has 12 apples. Step 1: 12", "max_tokens": 24, "temperature": 0}
SAMPLING = {"temperature": 0.2, "top_k": 2, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.9}
# What could shift scores, if requests did not set their own.
SHIFTING = ["--override-generation-config", json.dumps(SAMPLING), "--logprobs-mode", "processed_logprobs"]
SHIFTING += ["--max-logprobs", "2"]
FLAGS = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--block-size", "32"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Step scores by a pooling engine: of the base model, and with the adapter."""
    folder = tmp_path_factory.mktemp("adapter") / "judge"
    adapter(folder, 0, BACKBONE)
    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "max_lora_rank": RANK}
    with PRM(TINY_PRM, lora=str(folder), max_loras=2, **options) as prm:
        adapted = prm.score_batch(SOLUTIONS, progress=False)
    with PRM(TINY_PRM, **options) as prm:
        base = prm.score_batch(SOLUTIONS, progress=False)
    return folder, [list(scores.step_scores) for scores in base], [list(scores.step_scores) for scores in adapted]


@pytest.fixture(scope="module")
def url(expected, tmp_path_factory):
    """The base model and the adapter, both to be scored by the recipe."""
    lora = ["--enable-lora", "--max-loras", "2", "--max-lora-rank", str(RANK), "--lora-modules", f"judge={expected[0]}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_PLUGINS", "prm")
        log = tmp_path_factory.mktemp("log") / "generate.log"
        served = ["--prm", RECIPE, "--runner", "generate", "--served-model-name", "tiny", *lora, *SHIFTING]
        with serving(log, TINY_PRM, *FLAGS, *served) as url:
            yield url


@pytest.fixture(scope="module")
def plain_url(tmp_path_factory):
    """`vllm serve`, which does not load our plugin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_PLUGINS", "")
        with serving(tmp_path_factory.mktemp("log") / "plain.log", TINY_PRM, *FLAGS) as url:
            yield url


DIGITS = "( 1| 2){4}"
OTHERS = [{"structured_outputs": {"regex": DIGITS}}, {"temperature": 1.5, "seed": 3, "logit_bias": {"332": 100}}]
OTHERS += [{"temperature": None, "frequency_penalty": 2.0}]  # None: the server's own


def close_to(results, expected):
    for scores, its in zip(results, expected, strict=True):
        assert list(scores.step_scores) == pytest.approx(its, abs=1e-5)


def test_the_scores_of_a_pooling_engine(url, expected):
    with PRMClient(url) as client:
        assert client.recipe == load_recipe(RECIPE)
        close_to(client.score_batch(SOLUTIONS, progress=False), expected[1])
        again = client.score_batch(SOLUTIONS, progress=False)
    assert all(scores.num_cached_tokens > 0.9 * scores.num_prompt_tokens for scores in again)


def test_with_the_adapter(url, expected):
    assert (
        max(abs(a - b) for one, other in zip(*expected[1:], strict=True) for a, b in zip(one, other, strict=True)) > 0.1
    )
    with PRMClient(url, model="judge") as client:
        close_to(client.score_batch(SOLUTIONS, progress=False), expected[2])


def test_a_client_with_a_recipe_of_its_own_and_the_adapter(url, expected):
    """As on a server without our plugin. The adapter's folder has no tokenizer, so the server tokenizes."""
    with PRMClient(url, recipe=RECIPE, model="judge") as client:
        close_to(client.score_batch(SOLUTIONS, progress=False), expected[2])


def test_base_and_adapter_and_text_at_the_same_time(url, expected):
    """Generation, greedy, is the same beside scoring as without; and scores are those of their own model, whatever
    other texts are sampled by."""

    async def run():
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            alone = (await http.post("/v1/completions", json={"model": "tiny", **GREEDY})).json()
            inputs = [{"question": question, "steps": steps} for question, steps in SOLUTIONS]
            scored = [http.post("/v1/prm/score", json={"model": name, "inputs": inputs}) for name in ("tiny", "judge")]
            texts = [http.post("/v1/completions", json={"model": "tiny", **GREEDY}) for _ in range(8)]
            others = [http.post("/v1/completions", json={"model": "tiny", **GREEDY, **more}) for more in OTHERS]
            return alone, *await asyncio.gather(*(asyncio.gather(*group) for group in (scored, texts, others)))

    alone, scored, texts, others = asyncio.run(run())
    for response in texts:
        assert response.json()["choices"][0]["text"] == alone["choices"][0]["text"]
    assert [response.status_code for response in others] == [200] * len(OTHERS)
    assert re.fullmatch(DIGITS, others[0].json()["choices"][0]["text"])
    for response, its in zip(scored, expected[1:], strict=True):
        for entry, step_scores in zip(response.json()["data"], its, strict=True):
            assert entry["step_scores"] == pytest.approx(step_scores, abs=1e-5)


def test_openrlhfs_route(url, expected):
    question, steps = SOLUTIONS[0]
    text = f"{question} " + "\n".join(f"Step {k}: {step} ки" for k, step in enumerate(steps, 1))
    response = httpx.post(f"{url}/get_reward", json={"query": [text]}, timeout=60).json()
    assert response["step_scores"][0] == pytest.approx(expected[1][0], abs=1e-5)
    refused = httpx.post(f"{url}/get_reward", json={"query": ["no tag here"]}, timeout=60)
    assert refused.status_code == 400
    assert "no step tag" in refused.json()["error"]["message"]


def test_bad_input(url):
    with PRMClient(url) as client:
        long, good = client.score_batch([("q", ["x " * 600]), SOLUTIONS[0]], on_error="return", progress=False)
    assert "the model takes 511" in str(long)
    assert len(good) == len(SOLUTIONS[0][1])
    with PRMClient(url, model="nobody") as client, pytest.raises(EngineError, match="nobody"):
        client.score(*SOLUTIONS[0])


def test_embeddings_are_refused_as_vllm_refuses_them(url):
    assert httpx.post(f"{url}/v1/embeddings", json={"input": "x"}, timeout=60).status_code in (400, 404)


def test_a_server_without_our_plugin(plain_url, expected):
    with PRMClient(plain_url, recipe=RECIPE) as client:
        results = client.score_batch(SOLUTIONS, progress=False)
        close_to(results, expected[1])
        again = client.score_batch(SOLUTIONS, progress=False)
        assert again == pytest.approx(again)
        assert all(scores.num_cached_tokens == scores.num_prompt_tokens for scores in again)
        ranking = client.rank(SOLUTIONS[0][0], [SOLUTIONS[0][1], SOLUTIONS[0][1][:1]])
    assert len(ranking.results) == 2


def test_as_the_page_says(plain_url, expected):
    """docs/one-engine.md, with this server's recipe and tokenizer."""
    instead = {SERVER: plain_url, '"math-shepherd"': repr(RECIPE), "peiyi9979/math-shepherd-mistral-7b-prm": TINY_PRM}
    with run_block("docs/one-engine.md", "prm = PRMClient(", instead, PRMClient=PRMClient)["prm"] as client:
        close_to([client.score(*SOLUTIONS[0])], expected[1][:1])


def test_a_plain_server_tokenizes_for_a_client_without_a_tokenizer(plain_url, expected, monkeypatch):
    def nowhere(source, *_, **__):
        raise OSError(f"{source} is on another machine")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", nowhere)
    with PRMClient(plain_url, recipe=RECIPE) as client:
        close_to(client.score_batch(SOLUTIONS, progress=False), expected[1])


def test_probabilities_over_the_whole_vocabulary_from_a_plain_server(plain_url):
    with PRMClient(plain_url, recipe=load_recipe(SHARES)) as client:
        close_to(client.score_batch(SOLUTIONS[:3], progress=False), shares_of_solutions(3))


def test_a_judge_on_a_server_without_our_plugin(plain_url):
    """Asked through the client's tokenizer and its chat template; the server only completes text."""
    words = {"yes": {"words": ["+"]}, "no": {"words": ["-"]}}
    recipe = load_recipe({"base": "judge", "scoring_tokens": words, "prompt": {"rubric": "2 + 3 = 5"}})
    tokenizer, oracle = AutoTokenizer.from_pretrained(TINY_PRM), Oracle(TINY_PRM)
    tokenizer.chat_template = (
        "<s>{% for message in messages %}{% if message.role == 'user' %}{{ message.content }} ="
        "{% else %} {{ message.content }}\n{% endif %}{% endfor %}"
    )
    question, steps = "1 + 4", ["1 + 4 = 5", "5 + 4 = 9"]
    columns = tuple(range(oracle.model.config.vocab_size))
    with PRMClient(plain_url, recipe=recipe, tokenizer=tokenizer) as client:
        result = client.score(question, steps)
    text = f"<s>2 + 3 = 5\n\nProblem: {question}\n\nStep 1: {steps[0]}{JUDGE_ASKS} ="
    texts = [text, f"{text} +\nStep 2: {steps[1]}{JUDGE_ASKS} ="]
    for index, read in enumerate(texts):
        ids = tokenizer.encode(read, add_special_tokens=False)
        shares = oracle.logits_at(ids, [len(ids) - 1], columns)[0].softmax(-1)[[332, 333]]
        assert result.probabilities[index][0] == pytest.approx(float(shares[0] / shares.sum()), abs=1e-5)
        assert result.answer_mass[index] == pytest.approx(float(shares.sum()), abs=1e-5)
    assert result.num_prompt_tokens == len(ids)


def test_without_a_recipe_a_plain_server_says_what_to_do(plain_url):
    with PRMClient(plain_url) as client, pytest.raises(EngineError, match="VLLM_PLUGINS=prm.*recipe="):
        client.score(*SOLUTIONS[0])


def test_what_a_plain_server_cannot_be_asked(plain_url, tmp_path):
    with PRMClient(plain_url, recipe=RECIPE, model="nobody") as client, pytest.raises(RequestError, match="'nobody'"):
        client.score(*SOLUTIONS[0])
    with PRMClient(plain_url, recipe="math-shepherd") as client, pytest.raises(RecipeError):
        client.score(*SOLUTIONS[0])
    with pytest.raises(RecipeError, match="reads the head 'linear'"):
        PRMClient(plain_url, recipe="skywork-o1-prm")


def test_another_tokenizer_is_noticed(plain_url, tmp_path):
    """Its numbers are one higher: the same texts, other ids."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY_PRM)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    written = json.loads(path.read_text())
    vocabulary = written["model"]["vocab"]
    one, two = "▁7", "▁8"
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    path.write_text(json.dumps(written))
    with PRMClient(plain_url, recipe=RECIPE, tokenizer=str(tmp_path)) as client:
        expected = pytest.raises((EngineError, RecipeError), match="token")
        with expected:
            client.score(*SOLUTIONS[0])
