"""`vllm-prm` on the tiny PRM: an engine of its own, a server, and PRM in Python give the same numbers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY_PRM

from vllm_prm import PRM, PRMClient

sys.path.insert(0, str(ROOT / "examples"))
from arithmetic import solution  # noqa: E402 - examples are no package

LINES = 300
COMMAND = [str(Path(sys.executable).with_name("vllm-prm"))]
ENGINE = ["--model", TINY_PRM, "--", "--dtype", "float32", "--enforce-eager", "--max-model-len", "512"]


@pytest.fixture(scope="module")
def lines():
    rng = random.Random(11)
    solutions = [solution(rng, mistakes=n % 2) for n in range(LINES)]
    return [{"id": n, "question": made.question, "steps": list(made.steps)} for n, made in enumerate(solutions)]


def called(command, values, *options):
    text = "".join(json.dumps(line) + "\n" for line in values)
    done = subprocess.run(
        [*COMMAND, command, *options], input=text, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]  # nothing else may be on stdout


@pytest.fixture(scope="module")
def offline(lines):
    return called("score", lines, "--return", "logits", *ENGINE)


def test_an_engine_of_its_own(offline, lines):
    assert [line["id"] for line in offline] == list(range(LINES))
    assert [len(line["step_scores"]) for line in offline] == [len(line["steps"]) for line in lines]


def test_the_same_as_in_python(offline, lines):
    items = [(line["question"], line["steps"]) for line in lines]
    with PRM(TINY_PRM, dtype="float32", enforce_eager=True, max_model_len=512) as prm:
        results = prm.score_batch(items, progress=False)
    for result, line in zip(results, offline, strict=True):
        assert line["step_scores"] == pytest.approx(result.step_scores, abs=1e-6)  # float32, batched otherwise


def test_the_same_over_http(tiny_prm_url, offline, lines):
    for result, line in zip(
        called("score", lines, "--server", tiny_prm_url, "--return", "logits"), offline, strict=True
    ):
        assert result["step_scores"] == pytest.approx(line["step_scores"], abs=1e-6)
        assert result["first_error"] == line["first_error"]


def test_rank_chooses_the_right_one(tiny_prm_url):
    question = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
    candidates = [f"Step 1: 12 + 5 = 17\nStep 2: 17 - 9 = {n}" for n in (7, 8, 18)]
    (line,) = called("rank", [{"question": question, "candidates": candidates}], "--server", tiny_prm_url)
    assert line["best"] == 1


def test_doctor_finds_the_server_well(tiny_prm_url):
    done = subprocess.run([*COMMAND, "doctor", "--server", tiny_prm_url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "is a process reward model, recipe tiny-prm; routes are on" in done.stdout


def test_images_for_a_model_that_takes_text(tiny_prm_url):
    part = {"type": "image_url", "image_url": {"url": "https://example.com/never-fetched.png"}}
    with PRMClient(tiny_prm_url) as prm:
        items = [([part], ["a"]), ("1 + 1?", ["1 + 1 = 2"])]
        refused, scored = prm.score_batch(items, on_error="return", progress=False)
    assert "takes text only" in str(refused)
    assert len(scored) == 1
