"""The embedded model: it judges held-out solutions through vLLM as its card says; its demo leaves nothing behind."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY_PRM, running

from vllm_prm import find_recipe

sys.path.insert(0, str(ROOT / "examples"))
from arithmetic import is_held_out, solution  # noqa: E402 - examples are no package


@pytest.fixture(scope="module")
def judged():
    """200 held-out solutions, 120 of them wrong, and vLLM's scores of them."""
    rng = random.Random(2024)
    solutions = []
    while len(solutions) < 200:
        one = solution(rng, mistakes=int(len(solutions) < 120))
        if is_held_out(one.question):
            solutions.append(one)
    recipe = find_recipe(TINY_PRM)
    assert recipe is not None
    with running(TINY_PRM, hf_overrides={"prm": recipe.to_json()}, max_model_len=512) as llm:
        outputs = llm.embed([one.text for one in solutions], use_tqdm=False)
    return list(zip(solutions, [output.outputs.embedding for output in outputs], strict=True))


def test_one_score_per_step(judged):
    assert all(len(scores) == len(one.steps) for one, scores in judged)


def test_at_least_97_percent_of_steps_are_judged_right(judged):
    hits = [(score > 0.5) == ok for one, scores in judged for score, ok in zip(scores, one.right, strict=True)]
    assert sum(hits) / len(hits) >= 0.97


def test_the_first_wrong_step_is_found_in_at_least_95_percent(judged):
    found = [
        next((i for i, score in enumerate(scores) if score < 0.5), None) == one.first_error
        for one, scores in judged
        if one.first_error is not None
    ]
    assert len(found) == 120
    assert sum(found) / len(found) >= 0.95


def test_the_whole_folder_stays_small():
    assert sum(path.stat().st_size for path in Path(TINY_PRM).iterdir()) <= 4_000_000


def test_the_demo_stops_its_server_when_interrupted():
    """SIGTERM in the middle of the start: no vLLM process is left behind."""
    command = [sys.executable, "-u", str(ROOT / "examples" / "demo.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    port = process.stdout.readline().split()[-1]
    process.terminate()
    assert process.wait(60) == 143
    left = subprocess.run(["pgrep", "-f", f"tiny-prm.*--port {port}"], capture_output=True, text=True, check=False)
    assert left.stdout == ""
