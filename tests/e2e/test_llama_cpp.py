"""The client against llama.cpp's server: another engine, another tokenizer, prompts as text, likeliest tokens by text.

PRM_LLAMA_CPP names a Python that has the PyPI packages llama-cpp-python[server] and gguf, which are compiled on
installation (5 minutes on two cores), and whose requirements are not those of vLLM.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, TINY_PRM
from oracle import TOLERANCE, Oracle
from tiny_server import RECIPE, SOLUTIONS, prompt_of

from vllm_prm import EngineError, PRMClient, UnsupportedError

PYTHON = os.environ.get("PRM_LLAMA_CPP")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="no llama.cpp: set PRM_LLAMA_CPP to a Python that has llama-cpp-python[server] and gguf"
)
# Keys and values in float32 (ggml's type 0), as the weights are: llama.cpp keeps them in float16 otherwise.
EXACT = ["--n_ctx", "512", "--type_k", "0", "--type_v", "0"]
GOOD, BAD = 332, 333  # of prm.json


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / "tiny-prm.gguf"
    subprocess.run([PYTHON, str(ROOT / "tests" / "to_gguf.py"), TINY_PRM, str(file)], check=True)
    return file


@contextmanager
def llama_cpp(file: Path, *flags: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "llama_cpp.server", "--model", str(file), "--port", str(port), *EXACT, *flags]
    log = file.with_suffix(".log")
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            for _ in range(120):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/v1/models")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, log.read_text()[-3000:]
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def test_the_scores_of_transformers_or_no_score(gguf_file):
    """The tiny PRM is so sure of some steps that the other scoring token is not among the 100 likeliest."""
    oracle = Oracle(TINY_PRM)
    with (
        llama_cpp(gguf_file, "--logits_all", "true") as url,
        PRMClient(url, recipe=RECIPE, tokenizer=TINY_PRM) as client,
    ):
        results = client.score_batch(SOLUTIONS, on_error="return", progress=False)
    scored = [
        (result, item) for result, item in zip(results, SOLUTIONS, strict=True) if not isinstance(result, Exception)
    ]
    for result, (question, steps) in scored:
        prompt = prompt_of(question, steps)
        right = oracle.logits_at(list(prompt.token_ids), list(prompt.positions), (GOOD, BAD)).softmax(-1)[:, 0]
        assert list(result.step_scores) == pytest.approx(right.tolist(), abs=TOLERANCE)
    assert len(scored) > len(SOLUTIONS) / 2
    refused = [result for result in results if isinstance(result, Exception)]
    assert {type(error) for error in refused} == {EngineError}
    assert {"likeliest that are given" in str(error) for error in refused} == {True}


def test_a_server_that_gives_no_logprobs_is_told_of(gguf_file):
    with (
        llama_cpp(gguf_file, "--logits_all", "false") as url,
        PRMClient(url, recipe=RECIPE, tokenizer=TINY_PRM) as client,
        pytest.raises(UnsupportedError, match="logits_all"),
    ):
        client.score(*SOLUTIONS[0])
