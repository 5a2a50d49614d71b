"""A vLLM that does not serve a PRM behaves with the plugin as without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from conftest import running
model, plugins = sys.argv[1:]
prompt = "Janet's ducks lay 16 eggs per day. ки"
found = {}
with running(model, runner="auto", convert="auto") as llm:
    found["runner"] = llm.model_config.runner_type
    from vllm import SamplingParams
    (output,) = llm.generate([prompt], SamplingParams(temperature=0, max_tokens=20), use_tqdm=False)
    found["tokens"] = list(output.outputs[0].token_ids)
with running(model) as llm:
    (output,) = llm.embed([prompt], use_tqdm=False)
    found["vector"] = output.outputs.embedding
    found["class"] = type(llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.get_model()).__name__
from vllm.pooling_params import PoolingParams
found["hooked"] = hasattr(PoolingParams.verify, "_vllm_prm_wraps")
print("FOUND", json.dumps(found))
"""


def run(model: str, plugins: str | None) -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_PLUGINS"}
    if plugins is not None:
        environment["VLLM_PLUGINS"] = plugins
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(__file__))
    command = [sys.executable, "-c", SCRIPT, model, str(plugins)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("FOUND ")[-1])


@pytest.fixture(scope="module")
def both(checkpoint):
    folder = checkpoint("mistral")
    return run(folder, None), run(folder, "")


def test_the_comparison_is_between_a_hooked_and_an_unhooked_vllm(both):
    assert [found["hooked"] for found in both] == [True, False]


@pytest.mark.parametrize("what", ["runner", "tokens", "vector", "class"])
def test_nothing_changes(both, what):
    ours, theirs = both
    assert ours[what] == theirs[what]


def test_auto_is_still_generation(both):
    assert both[0]["runner"] == "generate"
    assert len(both[0]["tokens"]) == 20
    assert len(both[0]["vector"]) == 128
