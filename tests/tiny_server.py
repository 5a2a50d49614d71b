"""The tiny PRM behind our routes on a real `vllm serve`, and what the tests ask of it again and again."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, TINY_PRM
from oracle import Oracle
from score_requests import QUESTION, WRONG
from server import serving

from vllm_prm import find_recipe
from vllm_prm.prompts import Prompt, Scoring
from vllm_prm.recipes import bind

sys.path.insert(0, str(ROOT / "examples"))
from arithmetic import solution  # noqa: E402 - examples are no package

KEY = "k"
LONGEST = 512
BLOCK = 32
RECIPE = find_recipe(TINY_PRM)
SHARES = {**RECIPE.to_dict(), "name": "shares", "activation": "full_softmax"}  # P(good) among all tokens


@contextmanager
def started(log: Path, *more: str) -> Iterator[str]:
    """Its base URL; it wants KEY. Its output goes to `log`. more: flags of `vllm serve`."""
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(LONGEST), "--block-size", str(BLOCK)]
    options += ["--served-model-name", "tiny", "--api-key", KEY, "--scheduling-policy", "priority"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_PLUGINS", "prm")
        with serving(log, TINY_PRM, "--task", "embed", *options, *more) as url:
            yield url


def _solutions(count: int) -> list[tuple[str, list[str]]]:
    """(question, steps) without the numbers that the prompt gives them; every second one has a mistake."""
    rng = random.Random(5)
    made = [solution(rng, mistakes=i % 2) for i in range(count)]
    return [(one.question, [step.removeprefix(f"Step {k}: ") for k, step in enumerate(one.steps, 1)]) for one in made]


SOLUTIONS = _solutions(60)


def long_inputs(count: int) -> list[dict[str, Any]]:
    """Items of a request, each of many steps."""
    rng = random.Random(9)
    return [{"question": (one := solution(rng)).question, "steps": one.steps * 8} for _ in range(count)]


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY_PRM)


def prompt_of(question: str, steps: list[str]) -> Prompt:
    """A solution's one prompt."""
    (prompt,) = Scoring(question, steps, bind(RECIPE, _tokenizer())).prompts
    return prompt


def shares_of_solutions(count: int) -> list[list[float]]:
    """What the first of SOLUTIONS score by SHARES, by transformers."""
    oracle, (good, _) = Oracle(TINY_PRM), bind(RECIPE, _tokenizer()).scoring_ids
    prompts = [prompt_of(*one) for one in SOLUTIONS[:count]]
    return [oracle.shares(list(p.token_ids), list(p.positions), (good,))[:, 0].tolist() for p in prompts]


def ids(question: str, steps: list[str]) -> list[int]:
    return list(prompt_of(question, steps).token_ids)


def ask(http: httpx.Client, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = http.post("/v1/prm/score", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def still_answers(http: httpx.Client) -> None:
    (entry,) = ask(http, question=QUESTION, steps=WRONG)["data"]
    assert entry["first_error"] == 1, entry


def metric(http: httpx.Client, name: str) -> float:
    """The sum over all lines of /metrics that begin with `name`."""
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in lines)
