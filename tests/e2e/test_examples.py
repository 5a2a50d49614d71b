"""Every example runs on the tiny PRM and says what it should."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from server import serving
from stacks.documented import run

from vllm_prm import PRMClient

EXAMPLES = ROOT / "examples"
TINY_GENERATOR = str(EXAMPLES / "tiny-generator")
# Its prompts as the messages of a chat: the question, then what is written so far.
AS_CHAT = "{{ messages[0].content }}{% if messages[1:] %} {{ messages[1].content.lstrip() }}{% endif %}"


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """The tiny generator on a server of its own."""
    options = ["--dtype", "float32", "--enforce-eager", "--served-model-name", "generator", "--chat-template", AS_CHAT]
    with serving(tmp_path_factory.mktemp("log") / "generator.log", TINY_GENERATOR, *options) as url:
        yield url


def ran(*words, cwd=ROOT):
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_best_of_n(tiny_prm_url):
    out = ran(sys.executable, EXAMPLES / "best_of_n.py", tiny_prm_url)
    assert out.splitlines()[-1] == "best: Step 3: 8 + 4 = 12"
    assert "candidate 0: 0.0000   steps 0.98  0.00  0.00   first error 1" in out


def test_beam_search_over_a_generator_on_a_second_server(tiny_prm_url, generator):
    out = ran(sys.executable, EXAMPLES / "beam_search.py", generator, tiny_prm_url)
    alone, found = map(int, re.fullmatch(r"right: (\d+) of 20 .*, (\d+) by the search", out.splitlines()[-1]).groups())
    assert found >= 15 > alone, out


@pytest.mark.skipif(not importlib.util.find_spec("its_hub"), reason="its_hub is not installed: make setup")
def test_its_hub_searches_with_the_served_prm(tiny_prm_url, generator):
    """Its own beam search and particle filter, by the words of docs/integrations.md, on problems new to both models."""
    from its_hub import AbstractProcessRewardModel
    from its_hub.core.algorithms.particle_gibbs import ParticleFiltering

    sys.path.insert(0, str(EXAMPLES))
    from beam_search import problems

    made = run("its_hub", tiny_prm_url, generator)
    result, lm, prm = made["result"], made["generator"], made["search"].prm
    assert {*dir(prm)} >= AbstractProcessRewardModel.__abstractmethods__
    steps = result.the_one["content"].strip().split("\n")
    assert len(steps) == 3
    with PRMClient(tiny_prm_url) as client:
        assert max(result.scores) == pytest.approx(min(client.score(made["question"], steps).step_scores), abs=1e-6)

    found = {"one sample": [], "beam search": [], "particles": []}
    for problem in problems(8):
        steps = made["StepGeneration"](max_steps=len(problem.steps) - 1, step_token="\n", temperature=1.0)
        searches = {
            "one sample": (made["BeamSearch"](steps, prm, beam_width=1), 1),
            "beam search": (made["BeamSearch"](steps, prm, beam_width=2), 32),
            "particles": (ParticleFiltering(steps, prm), 32),
        }
        for name, (search, budget) in searches.items():
            text = search.infer(lm, problem.question, budget=budget)["content"]
            found[name].append(prm.score(problem.question, text))
    means = {name: sum(scores) / len(scores) for name, scores in found.items()}
    assert min(means["beam search"], means["particles"]) > max(0.7, means["one sample"]), found  # a quarter is right


def test_trl_trains_on_the_rewards(tiny_prm_url, tmp_path):
    out = ran(sys.executable, EXAMPLES / "trl_reward.py", tiny_prm_url, 3, cwd=tmp_path)
    rewards = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("step")]
    assert len(rewards) == 3
    assert all(0 < reward < 1 for reward in rewards), out


def test_evaluation_of_a_file(tiny_prm_url, tmp_path):
    sys.path.insert(0, str(EXAMPLES))
    from evaluate_file import made_up

    page = tmp_path / "page.html"
    out = ran(sys.executable, EXAMPLES / "evaluate_file.py", made_up(tmp_path / "mine.jsonl"), page, tiny_prm_url)
    f1 = float(out.splitlines()[3].split()[-1])
    assert f1 > 90, out
    assert "Where the PRM errs" in page.read_text("utf-8")


def test_curl(tiny_prm_url):
    out = ran("bash", EXAMPLES / "curl.sh", tiny_prm_url)
    assert '"first_error":1' in out
    assert '"best":1' in out
    assert '"embedding":[' in out


def test_an_engine_in_the_same_process():
    out = ran(sys.executable, EXAMPLES / "best_of_n.py")
    assert out.splitlines()[-1] == "best: Step 3: 8 + 4 = 12"


def test_vllms_own_llm():
    right, wrong = ran(sys.executable, EXAMPLES / "offline.py", cwd=ROOT).splitlines()[-2:]
    assert min(json.loads(right)) > 0.9
    assert json.loads(wrong) == [pytest.approx(0.965, abs=1e-3), 0.0]


def test_examples_are_short():
    for name in ("best_of_n", "beam_search", "trl_reward", "evaluate_file"):
        assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) < 90
