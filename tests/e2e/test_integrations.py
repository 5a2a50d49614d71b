"""The drop-ins without their stacks, called as the stacks' sources call them, and the routes that stacks ask.

Each test names the file that the call was read in. Real packages are in test_stacks.py.
"""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module

import aiohttp
import httpx
import numpy as np
import pytest
from score_requests import QUESTION, RIGHT, WRONG
from stacks.documented import CHATML, MESSAGES, PAGE, SOLUTIONS, TOO_LONG, openr_text, run, words

from vllm_prm import PRMClient
from vllm_prm.errors import RequestError


@pytest.fixture(scope="module")
def scores(tiny_prm_url):
    """The step scores of the right and the wrong solution."""
    with PRMClient(tiny_prm_url) as prm:
        return prm.score(QUESTION, RIGHT), prm.score(QUESTION, WRONG)


@pytest.fixture(scope="module")
def lowest(scores):
    """The rewards of SOLUTIONS where one that cannot be scored gets 0."""
    return [pytest.approx(one.aggregate("min"), abs=1e-6) for one in scores] + [0.0]


@pytest.fixture(autouse=True)
def in_the_environment(tiny_prm_url, monkeypatch):
    monkeypatch.setenv("VLLM_PRM_URL", tiny_prm_url)


def test_verl(scores, lowest):
    """verl 0.9.1, experimental/reward_loop/reward_manager/naive.py: awaited once per response, by keywords."""
    from vllm_prm.integrations.verl import compute_score

    async def asked():
        calls = [
            compute_score(
                data_source="arithmetic",
                solution_str=solution,
                ground_truth="12",
                extra_info={"question": QUESTION, "num_turns": None, "rollout_reward_scores": {}},
                reward_router_address="host:1",
                reward_model_tokenizer=object(),
            )
            for solution in SOLUTIONS
        ]
        return await asyncio.gather(*calls)

    for infos in (asyncio.run(asked()), asyncio.run(asked())):  # each in an event loop of its own
        assert [info["score"] for info in infos] == lowest
        assert json.loads(infos[1]["prm_step_scores"]) == pytest.approx(list(scores[1].step_scores), abs=1e-6)
        arrays = {key: np.array([info[key] for info in infos]) for key in infos[0]}  # agent_loop/agent_loop.py
        assert arrays["prm_steps"].tolist() == [3, 3, 0]
        assert arrays["prm_step_scores"].dtype.kind == "U"
    with pytest.raises(RequestError, match=r"no 'question', only \['index'\] \(data source 'math'\).*question_key"):
        asyncio.run(compute_score("math", SOLUTIONS[0], "12", {"index": 3}))
    info = asyncio.run(compute_score("math", "", "12", {"prompt": MESSAGES}, question_key="prompt", on_error=-1.0))
    assert (info["score"], info["prm_unscored"], info["prm_step_scores"]) == (-1.0, 1.0, "[]")


def test_what_verl_is_told_on_the_command_line(tiny_prm_url):
    typed = words("verl", tiny_prm_url)
    (path,) = [word.partition("=pkg://")[2] for word in typed if word.startswith("reward.custom_reward_function.path")]
    (name,) = [word.partition("=")[2] for word in typed if word.startswith("reward.custom_reward_function.name")]
    options = [re.search(r"reward_kwargs\.(\w+)=", word) for word in typed]
    assert {option[1] for option in options if option} == {"aggregate", "on_error"}
    assert asyncio.iscoroutinefunction(getattr(import_module(path), name))


def test_ms_swift(scores, lowest):
    """ms-swift 4.6.0, rl_core/grpo_algorithm.py: awaited in a new event loop for each batch."""
    from vllm_prm.integrations.ms_swift import PRMReward

    reward = partial(PRMReward, aggregate="min")(args=None)
    messages = [[*MESSAGES, {"role": "assistant", "content": solution}] for solution in SOLUTIONS]
    assert asyncio.iscoroutinefunction(reward.__call__)
    for _ in range(2):
        rewards = asyncio.run(reward(SOLUTIONS, messages=messages, trainer_state=None, solution=["12"] * 3))
        assert rewards == [*lowest[:2], None]
    assert reward.step_scores[0] == pytest.approx(scores[0].step_scores, abs=1e-6)


def test_skyrl(scores, lowest):
    """skyrl 0.3.0, train/generators/skyrl_gym_generator.py."""
    from vllm_prm.integrations.skyrl import ScoredAnswer

    for solution, expected in zip(SOLUTIONS, lowest, strict=True):
        env = ScoredAnswer(env_config={}, extras={"max_turns": 1})
        env.init([{"role": "user", "content": QUESTION}])
        assert env.step(solution)["reward"] == expected
    assert env.get_metrics()["prm_unscored"] == 1


def test_areal(tiny_prm_url, lowest):
    """AReaL 1.0.4, api/reward_api.py: in a pool of processes; workflow/rlvr.py: with the dataset's columns."""
    reward = run("AReaL", tiny_prm_url)["reward"]
    with ProcessPoolExecutor(2) as pool:
        calls = [
            pool.submit(partial(reward, CHATML, f"{solution}<|im_end|>", [1], [2], answer="12", query_id="7"))
            for solution in SOLUTIONS
        ]
        assert [call.result(15) for call in calls] == lowest


def test_its_hub(scores, lowest):
    """its_hub 1.2.0, core/algorithms/beam_search.py; core/reward_models/local_vllm_prm.py for one text."""
    from vllm_prm.integrations.its_hub import ServedPRM

    prm = ServedPRM()
    assert prm.score(QUESTION, SOLUTIONS) == asyncio.run(prm.ascore(QUESTION, SOLUTIONS)) == lowest
    assert prm.step_scores[1] == pytest.approx(scores[1].step_scores, abs=1e-6)
    assert prm.score(MESSAGES, SOLUTIONS[0]) == lowest[0]
    assert prm.score([MESSAGES] * 3, SOLUTIONS) == lowest


def test_search_and_learn(tiny_prm_url, scores):
    """huggingface/search-and-learn, src/sal/models/reward_models.py at 027a727: PRM.score."""
    made = run("search-and-learn", tiny_prm_url, question=QUESTION, right=SOLUTIONS[0], wrong=SOLUTIONS[1])
    assert made["scores"] == [[pytest.approx(list(one.step_scores), abs=1e-6) for one in scores]]
    assert made["prm"].score([QUESTION, QUESTION], [[SOLUTIONS[0]], [""]])[1] == [[0.0]]
    with pytest.raises(RequestError, match="2 questions and 1 lists"):
        made["prm"].score([QUESTION, QUESTION], [[]])


async def _remote_rm(url: str, payload: dict):
    """slime/rollout/rm_hub/__init__.py at 624b824, and vime's at 7e14687: remote_rm, without its retries."""
    async with aiohttp.ClientSession() as session, session.post(url, json=payload) as response:
        response.raise_for_status()
        return await response.json()


@pytest.mark.parametrize("prompt", [QUESTION, CHATML, MESSAGES])
def test_slime_and_vime(tiny_prm_url, scores, lowest, prompt):
    typed = words("slime and vime", tiny_prm_url)
    number, whole = [url for flag, url in zip(typed, typed[1:], strict=False) if flag == "--rm-url"]
    key = typed[typed.index("--reward-key") + 1]
    for solution, expected, reward in zip(SOLUTIONS, [*scores, None], lowest, strict=True):
        payload = {"prompt": prompt, "response": f"{solution}<|im_end|>", "label": "12"}
        assert asyncio.run(_remote_rm(number, payload)) == reward
        answer = asyncio.run(_remote_rm(whole, payload))
        assert answer[key] == reward
        assert answer["step_scores"] == pytest.approx(list(expected.step_scores) if expected else [], abs=1e-6)
        assert answer["first_error"] == (expected.first_error() if expected else None)
        assert (answer["error"] is None) == (expected is not None)


@pytest.mark.parametrize(
    ("query", "body", "says"),
    [
        ("", {"prompt": QUESTION}, "response: is missing"),
        ("", {"prompt": [], "response": "a"}, "prompt: list should have at least 1 item"),
        ("", {"prompt": 7, "response": "a"}, "prompt: input should be a valid string, found the number 7"),
        ("", {"prompt": [{"role": "user", "content": 7}], "response": "a"}, "prompt.0.content: input should be"),
        ("", {"prompt": [{"role": "system", "content": "x"}], "response": "a"}, "none from the user"),
        ("?aggregate=sum_log", {"prompt": QUESTION, "response": "a"}, "sum_log gives 0 to the best"),
        ("?aggregate=max", {"prompt": QUESTION, "response": "a"}, "'sum_log'"),
        ("?reply=text", {"prompt": QUESTION, "response": "a"}, "'number' or 'object'"),
        ("?on_error=nan", {"prompt": QUESTION, "response": "a"}, "finite number"),
    ],
)
def test_bad_samples(tiny_prm_url, query, body, says):
    answer = httpx.post(f"{tiny_prm_url}/remote_rm{query}", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_options_of_a_sample(tiny_prm_url, scores):
    body = {"prompt": QUESTION, "response": SOLUTIONS[1], "metadata": {"x": 1}}
    for query, expected in (("aggregate=mean", "mean"), ("aggregate=sum_log&on_error=-9", "sum_log")):
        given = httpx.post(f"{tiny_prm_url}/remote_rm?{query}", json=body).json()
        assert given == pytest.approx(scores[1].aggregate(expected), abs=1e-3)
    empty = {**body, "response": "<|im_end|>"}
    assert httpx.post(f"{tiny_prm_url}/remote_rm?on_error=-9", json=empty).json() == -9


@pytest.mark.parametrize("prompt", [CHATML, QUESTION])
def test_openrlhf(tiny_prm_url, lowest, prompt):
    """OpenRLHF 0.11.2, utils/agent.py: the query with special tokens, the prompt with its chat template."""
    typed = words("OpenRLHF", tiny_prm_url)
    url = typed[typed.index("--reward.remote_url") + 1]
    queries = [f"{prompt} {solution}<|im_end|>\n<|endoftext|>" for solution in SOLUTIONS]
    answer = httpx.post(url, json={"query": queries, "prompts": [prompt] * 3, "labels": ["12"] * 3}).json()
    assert answer["rewards"] == answer["scores"] == lowest
    assert answer["extra_logs"]["prm_unscored"] == [0, 0, 1]


def test_openr(tiny_prm_url, scores):
    """OpenR at 54ae004, reason/inference/value.py: some texts, or one, to the address that was registered."""
    registered = json.loads(words("OpenR", tiny_prm_url)[-1])
    assert "math-shepherd" in registered["worker_status"]["model_names"][0]  # how OpenR's evaluate.py chooses the tag
    address = f"{registered['worker_name']}/worker_value_inference"
    texts = [openr_text(solution) for solution in (SOLUTIONS[0], TOO_LONG, SOLUTIONS[1])]
    answer = httpx.post(address, headers={"User-Agent": "FastChat Client"}, json={"input_str": texts}).json()
    right, wrong = (pytest.approx(list(one.step_scores), abs=1e-6) for one in scores)
    assert (answer["input"], answer["value"]) == (texts, [right, [], wrong])
    assert list(answer["errors"]) == ["1"]
    assert "512" in answer["errors"]["1"]
    answer = httpx.post(address, json={"input_str": texts[2]}).json()
    assert answer == {"input": texts[2], "value": wrong, "errors": {}}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "input_str: is missing"),
        ({"input_str": []}, "input_str: list should have at least 1 item"),
        (
            {"input_str": ["a ки", ["a question", "an answer"]]},
            "input_str.1: input should be a valid string, found a list of 2",
        ),
        ({"input_str": ["a ки", "a \n\n\n\n\n b"]}, r"input_str 1: no step tag (▁ки) in 'a \n\n\n\n\n b'"),
    ],
)
def test_bad_texts(tiny_prm_url, body, says):
    answer = httpx.post(f"{tiny_prm_url}/worker_value_inference", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_every_section_is_tested_somewhere():
    """Here, in test_stacks.py or in test_examples.py; a stack of the table has a section."""
    text = PAGE.read_text("utf-8")
    sections = set(re.findall(r"^## (.+)$", text, re.MULTILINE))
    folder = PAGE.parents[1] / "tests"
    tests = [*folder.glob("e2e/test_*.py"), *folder.glob("stacks/asks_*.py")]
    tested = {name for path in tests for name in re.findall(r'(?:run|words)\(\s*"([^"]+)"', path.read_text("utf-8"))}
    assert sections <= tested
    named = {stack for line in text.splitlines() if line.startswith("| [") for stack in re.findall(r"\[(.+?)\]", line)}
    assert {"slime and vime" if stack == "slime, vime" else stack for stack in named} == sections
