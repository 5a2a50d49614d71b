"""The recipe `judge` on our own server, over HTTP: a small instruct model with Mistral's chat, against transformers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import torch
from checkpoints import SMALL, real_tokenizer
from oracle import TOLERANCE, Oracle
from prompt_oracles import judge
from server import serving
from transformers import LlamaConfig, LlamaForCausalLM

from vllm_prm import PRMClient, RequestError
from vllm_prm.evaluate import load_benchmark, score_benchmark

# Mistral-7B-Instruct-v0.1's chat template (tokenizer_config.json): no system turn, answers directly behind [/INST].
CHAT = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %}{{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
QUESTION = "What is 2 + 3 * 4 - 1?"
STEPS = ["3 * 4 = 12", "2 + 12 = 14", "Yes", "14 - 1 = 13. The answer is: 13"]
BLOCK = 32
SAYS = "would rather say something else"
ROWS = load_benchmark(Path(__file__).parents[1] / "data" / "prmbench-36.jsonl")


def instruct_model(folder: Path) -> str:
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(folder)
    tokenizer = real_tokenizer()
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(base URL, the folder of its model, what it says)"""
    folder, log = instruct_model(tmp_path_factory.mktemp("judge")), tmp_path_factory.mktemp("log") / "judge.log"
    options = ["--task", "embed", "--prm", "judge", "--dtype", "float32", "--enforce-eager"]
    options += ["--block-size", str(BLOCK), "--max-model-len", "4096"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_PLUGINS", "prm")
        with serving(log, folder, *options) as url:
            yield url, folder, log


@pytest.fixture(scope="module")
def expected(served):
    """expected(question, steps) -> (scores, answer mass): from the logits where the assistant's answer begins."""
    oracle, tokenizer = Oracle(served[1]), real_tokenizer()
    tokenizer.chat_template = CHAT

    def both(question, steps):
        *_, last = reads = judge(question, steps, tokenizer)
        assert all(last.seen[: len(read.seen)] == read.seen for read in reads), "one chat holds them all"
        places = [len(read.seen) - 1 for read in reads]
        shares = oracle.shares(list(last.seen), places, last.columns).double()
        return (shares[:, 0] / shares.sum(1)).tolist(), shares.sum(1).tolist()

    return both


@pytest.fixture
def client(served):
    with PRMClient(served[0]) as made:
        yield made


def test_scores_and_answer_mass_on_the_wire(served, expected):
    """The first request to this server: its warning comes with it."""
    assert SAYS not in served[2].read_text()
    scores, mass = expected(QUESTION, STEPS)
    body = {"question": QUESTION, "candidates": [STEPS, STEPS[:2]]}
    answer = httpx.post(f"{served[0]}/v1/prm/score", json=body, timeout=60).raise_for_status().json()
    for entry, count in zip(answer["data"], (len(STEPS), 2), strict=True):
        assert entry["step_scores"] == pytest.approx(scores[:count], abs=TOLERANCE)
        assert entry["answer_mass"] == pytest.approx(mass[:count], abs=TOLERANCE)
        assert entry["answer_mass"] == pytest.approx(mass[:count], rel=1e-3)
    assert max(mass) < 0.5, "random weights have no answers"
    assert "In 1 solution(s) the answers of recipe 'judge' (yes and no) had less than 0.5" in served[2].read_text()
    assert SAYS in served[2].read_text()


def test_a_client_reads_a_growing_solution_from_the_cache(client, expected):
    scores, mass = expected(QUESTION, STEPS)
    for count in range(1, len(STEPS) + 1):
        result = client.score(QUESTION, STEPS[:count])
        assert result.step_scores == pytest.approx(scores[:count], abs=TOLERANCE)
        assert result.answer_mass == pytest.approx(mass[:count], abs=TOLERANCE)
    assert result.num_cached_tokens == (result.num_prompt_tokens - 1) // BLOCK * BLOCK
    assert client.recipe.name == "judge"


def test_the_rows_of_prmbench(served, client, expected):
    results = score_benchmark(ROWS, client, progress=False)
    assert [len(result.answer_mass) for result in results] == [len(steps) for _, steps in ROWS.solutions]
    for (question, steps), result in zip(ROWS.solutions, results, strict=True):
        scores, mass = expected(question, steps)
        assert result.step_scores == pytest.approx(scores, abs=TOLERANCE)
        assert result.answer_mass == pytest.approx(mass, abs=TOLERANCE)
    assert served[2].read_text().count(SAYS) == 2  # at the 1st solution and at the 10th, of more than 36


def test_trainers_routes(served, expected):
    text = "\n".join(STEPS)
    scores, _ = expected(QUESTION, STEPS)
    body = {"query": [f"{QUESTION}\n{text}"], "prompts": [QUESTION]}
    answer = httpx.post(f"{served[0]}/get_reward", json=body, timeout=60).raise_for_status().json()
    assert answer["step_scores"] == [pytest.approx(scores, abs=TOLERANCE)]
    assert answer["rewards"] == [pytest.approx(min(scores), abs=TOLERANCE)]
    body = {"prompt": QUESTION, "response": text}
    reward = httpx.post(f"{served[0]}/remote_rm", json=body, timeout=60).raise_for_status().json()
    assert reward == pytest.approx(min(scores), abs=TOLERANCE)


def test_a_finished_text_has_nothing_to_read(served):
    """There is no tag in a judge's prompt."""
    refused = httpx.post(f"{served[0]}/get_reward", json={"query": [f"{QUESTION} {STEPS[0]}"]}, timeout=60)
    assert refused.status_code == 400
    assert "no step tag; send a question and its steps" in refused.json()["error"]["message"]


def test_a_solution_too_long_is_refused_alone(client, expected):
    too_long, good = client.score_batch(
        [(QUESTION, ["1 + 1 = 2 " * 1000]), (QUESTION, STEPS)], on_error="return", progress=False
    )
    assert isinstance(too_long, RequestError)
    assert "4096" in str(too_long)
    assert good.step_scores == pytest.approx(expected(QUESTION, STEPS)[0], abs=TOLERANCE)
