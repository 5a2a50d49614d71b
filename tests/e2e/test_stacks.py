"""RL stacks as they are installed: their own code calls ours, as docs/integrations.md says, and ours asks a server.

TRL and skyrl-gym are in the development environment; the others are where `make stacks` runs this file.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import pickle
import subprocess
import sys

import pytest
from conftest import ROOT
from score_requests import QUESTION, RIGHT, WRONG
from stacks.documented import MESSAGES, SOLUTIONS, run

from vllm_prm import PRMClient


@pytest.fixture(scope="module")
def scores(tiny_prm_url):
    """The step scores of the right and the wrong solution."""
    with PRMClient(tiny_prm_url) as prm:
        right, wrong = prm.score(QUESTION, RIGHT), prm.score(QUESTION, WRONG)
    assert min(right.step_scores) > 0.5 > 0.01 > min(wrong.step_scores)
    return right, wrong


@pytest.fixture(scope="module")
def lowest(scores):
    """The rewards of SOLUTIONS where one that cannot be scored gets 0."""
    return [pytest.approx(one.aggregate("min"), abs=1e-6) for one in scores] + [0.0]


def installed(package: str, by: str = "make stacks"):
    found = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not found, reason=f"{package} is not installed: {by}")


def asks(stack: str, url: str) -> dict:
    folder = ROOT / "tests" / "stacks"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(folder / f"asks_{stack}.py"), url]
    environment = {**os.environ, "PYTHONPATH": path, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def is_none(reward: float) -> bool:
    return math.isnan(reward)  # how TRL and ms-swift keep None in a tensor


def test_trl(tiny_prm_url, scores):
    given = asks("trl", tiny_prm_url)
    for rewards in (given["rewards"], given["of_messages"]):
        for solution, result in enumerate(scores):
            expected = [result.aggregate("min"), result.aggregate("product")]
            assert rewards[solution] == pytest.approx(expected, abs=1e-6)
        assert all(map(is_none, rewards[2]))
    shown = [" ".join(f"{score:.4f}" for score in result.step_scores) for result in scores] + [""]
    assert given["extra"] == {"tiny-prm_min_steps": shown, "prm_product_steps": shown}
    assert given["metrics"]["prm_product/unscored"] == [pytest.approx(1 / 3)]
    assert given["metrics"]["tiny-prm_min/steps"] == [2.0]


@installed("verl")
def test_verl(tiny_prm_url, scores, lowest):
    given = asks("verl", tiny_prm_url)
    assert given["rewards"] == lowest
    for info, result in zip(given["infos"], scores, strict=False):
        assert json.loads(info["prm_step_scores"]) == pytest.approx(list(result.step_scores), abs=1e-6)
        assert info["prm_mean"] == pytest.approx(result.aggregate("mean"), abs=1e-6)
    assert [info["prm_unscored"] for info in given["infos"]] == [0, 0, 1]
    assert given["metrics"]["prm_steps"]["mean@3"] == 2.0
    assert "prm_step_scores" not in given["metrics"]


@installed("openrlhf")
def test_openrlhf(tiny_prm_url, lowest):
    given = asks("openrlhf", tiny_prm_url)
    assert [reward for (reward,) in given["reward"]] == [score for (score,) in given["scores"]] == lowest
    assert [logs["prm_steps"] for logs in given["extra_logs"]] == [[3.0], [3.0], [0.0]]


@installed("swift")
def test_ms_swift(tiny_prm_url, scores, lowest):
    given = asks("ms_swift", tiny_prm_url)
    for rewards in given["rewards"]:
        assert rewards[:2] == lowest[:2]
        assert is_none(rewards[2])
    assert given["step_scores"] == [*(pytest.approx(one.step_scores, abs=1e-6) for one in scores), []]


@installed("areal")
def test_areal(tiny_prm_url, lowest):
    given = asks("areal", tiny_prm_url)
    assert given["rewards"] == given["of_messages"] == lowest


@installed("fastchat")
def test_openr(tiny_prm_url, scores):
    given = asks("openr", tiny_prm_url)
    right, wrong = (pytest.approx(list(one.step_scores), abs=1e-6) for one in scores)
    assert given == {"values": [right, wrong, []], "of_one": wrong}


@installed("skyrl_gym", "make setup")
def test_skyrl(tiny_prm_url, scores, lowest):
    import skyrl_gym
    from skyrl_gym.envs.base_text_env import BaseTextEnv
    from skyrl_gym.metrics import aggregate_for_environment

    run("SkyRL", tiny_prm_url)
    rewards, metrics = [], []
    for solution, expected in zip(SOLUTIONS, [*scores, None], strict=True):
        env = skyrl_gym.make("prm", env_config={}, extras={"reward_spec": {}, "max_turns": 1})
        assert isinstance(env, BaseTextEnv)
        assert pickle.loads(pickle.dumps(type(env))) is type(env)  # Ray sends it so
        assert env.init(MESSAGES) == (MESSAGES, {})
        output = env.step(solution)
        assert (output["done"], output["observations"]) == (True, [])
        rewards.append(output["reward"])
        details = output["metadata"]
        assert details["step_scores"] == pytest.approx(list(expected.step_scores) if expected else [], abs=1e-6)
        assert details["first_error"] == (expected.first_error() if expected else None)
        assert (details["error"] is None) == (expected is not None)
        metrics.append(env.get_metrics())
        env.close()
    assert rewards == lowest
    assert aggregate_for_environment("prm", metrics)["prm_unscored"] == pytest.approx(1 / 3)
