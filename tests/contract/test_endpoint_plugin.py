"""vLLM's endpoint plugins, on the app that vLLM builds: when ours is loaded, and what it says on other servers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from conftest import TINY_PRM
from fastapi.testclient import TestClient
from vllm.config import ModelConfig, PoolerConfig
from vllm.entrypoints.cli.serve import make_arg_parser  # in every version, whatever file defines it
from vllm.entrypoints.launchers.app import build_app
from vllm.plugins import load_endpoint_plugins
from vllm.plugins.endpoint_plugins.interface import EndpointPlugin, init_endpoint_plugins_state
from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_prm.engine.serve.bodies import reward_response, score_response
from vllm_prm.engine.serve.caller import Caller
from vllm_prm.engine.serve.endpoints import PRMEndpoints
from vllm_prm.engine.serve.routes import REWARD_PATH, SAMPLE_PATH, STACK_PATHS, VALUES_PATH
from vllm_prm.errors import RecipeError
from vllm_prm.recipes import load_recipe
from vllm_prm.scores import StepScores
from vllm_prm.wire import RewardRequest, ScoreRequest

PATHS = (("POST", "/v1/prm/score"), ("GET", "/v1/prm/recipe"), *(("POST", path) for path in STACK_PATHS))
BODIES = {
    "/v1/prm/score": {"question": "q", "steps": ["a"]},
    REWARD_PATH: {"query": ["a"]},
    SAMPLE_PATH: {"prompt": "q", "response": "a"},
    VALUES_PATH: {"input_str": "a"},
}


def app(*flags, tasks=("embed",), config=None):
    args = make_arg_parser(FlexibleArgumentParser()).parse_args([TINY_PRM, *flags])
    built = build_app(args, tasks, config)
    client = SimpleNamespace(model_config=config) if config else None
    asyncio.run(init_endpoint_plugins_state(client, built.state, args))
    return TestClient(built, raise_server_exceptions=False)


def model_config(**options):
    return ModelConfig(model=TINY_PRM, dtype="float32", max_model_len=512, **options)


def asked(client, **headers):
    return [client.request(method, path, json=BODIES.get(path), headers=headers) for method, path in PATHS]


def test_the_protocol_is_vllms():
    assert isinstance(PRMEndpoints(), EndpointPlugin)


@pytest.mark.parametrize(
    ("plugins", "loaded"),
    [("prm", True), ("other,prm", True), (None, False), ("", False), ("other", False)],
)
def test_loaded_only_if_named(monkeypatch, plugins, loaded):
    if plugins is None:
        monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    else:
        monkeypatch.setenv("VLLM_PLUGINS", plugins)
    assert [plugin.name for plugin in load_endpoint_plugins(("embed",))] == ["prm"] * loaded
    client = app()
    paths = client.get("/openapi.json").json()["paths"]
    for method, path in PATHS:
        assert (path in paths) == loaded
        answer = client.request(method, path, json=BODIES.get(path))
        assert answer.status_code == 404
        assert (answer.json() == {"detail": "Not Found"}) != loaded  # vLLM's answer to a path it does not have


@pytest.mark.parametrize(
    ("options", "tasks", "message"),
    [
        ({"runner": "generate"}, ("generate",), "does not serve a process reward model"),
        ({"runner": "pooling", "convert": "embed"}, ("embed",), "does not serve a process reward model"),
        (
            {
                "runner": "pooling",
                "convert": "embed",
                "pooler_config": PoolerConfig(pooling_type="STEP", step_tag_id=318, returned_token_ids=[332, 333]),
            },
            ("embed",),
            "--prm RECIPE",
        ),
    ],
)
def test_a_server_without_a_recipe_says_so(monkeypatch, options, tasks, message):
    monkeypatch.setenv("VLLM_PLUGINS", "prm")
    for answer in asked(app(tasks=tasks, config=model_config(**options))):
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["type"] == "NotFoundError"
        assert message in error["message"]
        assert "--prm RECIPE" in error["message"]


def test_a_server_without_an_engine_says_so(monkeypatch):
    monkeypatch.setenv("VLLM_PLUGINS", "prm")
    for answer in asked(app(tasks=("render",))):
        assert answer.status_code == 404
        assert "no engine" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("authorization", "v1", "reward"),
    [
        (None, 401, 401),
        ("Bearer wrong", 401, 401),
        ("Bearer key", 404, 404),
        ("Bearer second", 404, 404),
        ("Basic YW55OmtleQ==", 401, 404),  # any:key, as OpenRLHF sends it from a URL
        ("Basic YW55Ondyb25n", 401, 401),  # any:wrong
        ("Basic nonsense!", 401, 401),
        ("Basic /w==", 401, 401),
        ("key", 401, 401),
    ],
)
def test_the_key(monkeypatch, authorization, v1, reward):
    monkeypatch.setenv("VLLM_PLUGINS", "prm")
    headers = {"Authorization": authorization} if authorization else {}
    client = app("--api-key", "key", "second")
    assert [answer.status_code for answer in asked(client, **headers)] == [v1, v1, *[reward] * len(STACK_PATHS)]
    for path in STACK_PATHS:
        assert client.post(f"{path}/", content="{", headers=headers, follow_redirects=False).status_code != 200


def test_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("VLLM_PLUGINS", "prm")
    monkeypatch.setenv("VLLM_API_KEY", "env")
    client = app()
    assert [answer.status_code for answer in asked(client)] == [401] * len(PATHS)
    assert [answer.status_code for answer in asked(client, Authorization="Bearer env")] == [404] * len(PATHS)


def test_other_paths_keep_their_own_rules(monkeypatch):
    """Our guard looks at our paths only."""
    monkeypatch.setenv("VLLM_PLUGINS", "prm")
    client = app("--api-key", "key")
    assert client.get("/version").status_code == 200
    assert client.get("/v1/models").status_code == 401


class Serving:
    """Stands in for PRMServing: its recipe turns out not to fit the tokenizer at a question called "broken"."""

    recipe = load_recipe("math-shepherd")
    tokenizer = SimpleNamespace(all_special_tokens=["</s>"])

    async def score(self, question, steps, caller, name):
        if question == "broken":
            raise RecipeError("the tokenizer does not fit")
        return StepScores.from_logits([[1.0, 0.0]] * len(steps), self.recipe, 7, 3)


CALLER = Caller("prm-1", "m", None, 0, None)


def test_the_servers_own_fault_is_not_the_requests():
    inputs = [{"question": "broken", "steps": ["a"]}, {"question": "q", "steps": ["a", "b"]}]
    answer = asyncio.run(score_response(Serving(), ScoreRequest(inputs=inputs), CALLER))
    assert (answer.data[0].error.code, answer.data[0].error.type) == (500, "InternalServerError")
    assert answer.data[0].error.message == "the tokenizer does not fit"
    assert len(answer.data[1].step_scores) == 2
    assert answer.usage.prompt_tokens == 7
    alone = asyncio.run(score_response(Serving(), ScoreRequest(**inputs[0]), CALLER))
    assert alone.code == 500
    request = RewardRequest(query=["broken a", "q b"], prompts=["broken", "q"])
    with pytest.raises(RecipeError):  # on_error is for queries, not for a server that cannot score at all
        asyncio.run(reward_response(Serving(), request, CALLER, None, 0.0))


@pytest.mark.parametrize(
    ("query", "steps"),
    [("q a\nb", 2), ("</s>q a</s></s>", 1), (" </s> q a ки\nb ки </s>\n", 2)],
)
def test_special_tokens_around_a_query(query, steps):
    answer = asyncio.run(reward_response(Serving(), RewardRequest(query=[query], prompts=["q"]), CALLER, None, None))
    assert len(answer.step_scores[0]) == steps


@pytest.mark.parametrize("query", ["other q a", "a", "q", "q </s>"])
def test_a_query_that_is_not_its_prompt_and_a_response(query):
    answer = asyncio.run(reward_response(Serving(), RewardRequest(query=[query], prompts=["q"]), CALLER, None, -2.0))
    assert answer.rewards == [-2.0]
    assert list(answer.errors) == [0]
