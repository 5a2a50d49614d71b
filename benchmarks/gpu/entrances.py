"""Checks of what users type: a server with vLLM's defaults and our routes, and an engine that generates and scores."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import torch
from serve import serving
from transformers import AutoTokenizer

from gpu import checkpoints
from gpu.checkpoints import TINY_PRM
from gpu.findings import Findings
from gpu.oracle import Scores, expected, load
from gpu.scoring import memory
from sweep import small_engine
from vllm_prm import PRM, PRMClient
from vllm_prm.recipes import load_recipe

RECIPE = load_recipe(str(TINY_PRM / "prm.json"))
QUESTION = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
TEXT = f"{QUESTION} Step 1: 12 + 5 = 17 ки\nStep 2: 17 - 9 = 7 ки"  # the README's
TEXT_STEPS = ["12 + 5 = 17", "17 - 9 = 7"]
# Solutions of 1 to 40 steps: within one block, over many, and some that begin alike.
SOLUTIONS = [(QUESTION, [f"{number} + {number % 7} = {2 * number}" for number in range(count)]) for count in (1, 9, 40)]
SOLUTIONS += [(QUESTION, TEXT_STEPS[:1]), (QUESTION, TEXT_STEPS)]


def served(folder: Path) -> dict[str, Any]:
    """`vllm serve examples/tiny-prm --task embed`, nothing else said: embeddings, our route, all asked twice."""
    findings = Findings()
    ids = AutoTokenizer.from_pretrained(TINY_PRM)(TEXT).input_ids
    required = [expected(load(TINY_PRM), [ids]).scores[0][:, 0]]
    folder.mkdir(exist_ok=True)
    vllm = [sys.executable, "-m", "vllm.entrypoints.cli.main"]
    with serving(str(TINY_PRM), {**memory(), "task": "embed"}, folder / "log", vllm) as server:
        client = PRMClient(server.url)
        for name in ("at first", "again"):
            answer = _post(f"{server.url}/v1/embeddings", {"model": "prm", "input": TEXT})
            findings.close(f"embedding {name}", [torch.tensor(answer["data"][0]["embedding"])], required)
            findings.close(f"client {name}", _steps([client.score(QUESTION, TEXT_STEPS)]), required)
    return findings.answer()


def generating(folder: Path) -> dict[str, Any]:
    """An engine that generates text, asked for log-probabilities of one token: the scores of a pooling engine."""
    findings = Findings()
    checkpoints.save(folder, checkpoints.llama)
    shared: dict[str, Any] = {"load_format": "auto", "pooler_config": None, "max_model_len": 4096, **memory()}
    pooling = {**shared, "hf_overrides": {"prm": RECIPE.to_json()}}
    with small_engine.engine(str(folder), "bfloat16", pooling) as llm:
        required = _steps(PRM.from_llm(llm).score_batch(SOLUTIONS, progress=False))
    generate = {**shared, "runner": "generate", "convert": "auto"}
    with small_engine.engine(str(folder), "bfloat16", generate) as llm:
        prm = PRM.from_llm(llm, RECIPE)
        findings.close("of log-probabilities", _steps(prm.score_batch(SOLUTIONS, progress=False)), required)
        llm.generate([TEXT], use_tqdm=False)  # and it still writes text
    return findings.answer()


def _steps(results: list[Any]) -> Scores:
    return [torch.tensor(list(result.step_scores)) for result in results]


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:  # seconds; the first request may compile kernels
        return json.load(answer)
