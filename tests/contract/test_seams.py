"""What we rely on in vLLM. When one of these fails, the sentence says what moved; MAINTAINING.md says what to do."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import torch
from vllm.config import PoolerConfig
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.pooler import Pooler, PoolingParamsUpdate
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)
from vllm.model_executor.models import adapters
from vllm.pooling_params import PoolingParams
from vllm.v1.pool.metadata import PoolingCursor, PoolingMetadata, PoolingStates

from vllm_prm.engine import plugin
from vllm_prm.engine.model import as_process_reward_model


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def original(function):
    return getattr(function, plugin._WRAPPED, function)


def test_the_entry_point_is_installed_once():
    found = [point.value for point in entry_points(group="vllm.general_plugins") if point.name == "prm"]
    assert found == ["vllm_prm.engine.plugin:register"], "the package is not installed: run `make setup`"


def test_model_seam_is_called_with_a_class():
    assert parameters(original(adapters.as_embedding_model)) == ["cls"], (
        "vllm.model_executor.models.adapters.as_embedding_model no longer takes one class: see engine/model.py"
    )


def test_model_seam_is_looked_up_when_a_model_is_loaded():
    import vllm.model_executor.model_loader.utils as loader

    source = inspect.getsource(loader._get_model_architecture)
    assert "from vllm.model_executor.models.adapters import as_embedding_model" in source, (
        "the model loader no longer imports as_embedding_model at call time, so wrapping the module attribute "
        "has no effect: wrap it where the loader now finds it"
    )


def test_model_seam_resolves_once_per_engine_not_per_pooler_config():
    class PlainForCausalLM(torch.nn.Module):
        def __init__(self, *, vllm_config, prefix=""):
            super().__init__()

    plugin.register()
    converted = adapters.as_embedding_model(PlainForCausalLM)
    assert converted.__name__ == "PlainForEmbedding", "the embedding adapter names its classes otherwise"
    assert converted.is_pooling_model, "the embedding adapter no longer marks its classes as pooling models"
    assert as_process_reward_model(lambda cls: cls, converted) is converted, "a class vLLM left alone was touched"


def test_request_seam():
    assert parameters(original(PoolingParams.verify)) == ["self", "model_config"], (
        "PoolingParams.verify has another signature: see engine/requests.py"
    )
    for name in ("task", "step_tag_id", "returned_token_ids", "skip_reading_prefix_cache", "use_activation"):
        assert hasattr(PoolingParams(), name), f"PoolingParams lost {name}, which engine/requests.py relies on"


@pytest.mark.parametrize("module", ["vllm.v1.engine.input_processor", "vllm.entrypoints.pooling.base.serving"])
def test_request_seam_is_on_both_paths(module):
    source = inspect.getsource(__import__(module, fromlist=["x"]))
    assert ".verify(self.model_config)" in source, (
        f"{module} no longer calls PoolingParams.verify: requests on that path reach the engine unchecked"
    )


def test_only_the_requests_own_field_decides_about_reading_the_prefix_cache():
    from vllm.v1.request import Request

    source = inspect.getsource(Request.get_skip_reading_prefix_cache)
    assert "pooling_params.skip_reading_prefix_cache" in source, (
        "vLLM decides otherwise whether a pooling request reads the prefix cache: PRM requests must not"
    )


def test_command_line_seam():
    add = vars(EngineArgs)["add_cli_args"]
    assert isinstance(add, staticmethod), "EngineArgs.add_cli_args is no longer a static method"
    assert parameters(original(EngineArgs.add_cli_args)) == ["parser"], "EngineArgs.add_cli_args takes other arguments"
    source = inspect.getsource(AsyncEngineArgs.add_cli_args)
    assert source.index("load_general_plugins()") < source.index("EngineArgs.add_cli_args("), (
        "vllm serve builds its parser before it loads plugins: --task and --prm cannot be added"
    )


def test_pooler_interface():
    assert Pooler.__abstractmethods__ == {"get_supported_tasks", "forward"}, "vLLM's Pooler has other abstract methods"
    assert parameters(Pooler.forward)[1:] == ["hidden_states", "pooling_metadata"], "poolers are called otherwise"
    assert "requires_token_ids" in {f.name for f in dataclasses.fields(PoolingParamsUpdate)}, (
        "a pooler can no longer ask for prompt token ids"
    )
    cursor = {f.name for f in dataclasses.fields(PoolingCursor)}
    assert {"seq_lens_cpu", "num_scheduled_tokens_cpu"} <= cursor, "PoolingCursor lost its host-side lengths"
    assert hasattr(PoolingCursor, "is_finished"), "PoolingCursor.is_finished is gone"
    assert hasattr(PoolingMetadata, "get_prompt_token_ids_cpu"), "prompt token ids are handed over otherwise"
    state = PoolingStates()
    state.prm = 1  # partial results live on the request's own state object


def test_pooler_config_has_the_step_fields():
    config = PoolerConfig(pooling_type="STEP", step_tag_id=1, returned_token_ids=[2])
    assert config.tok_pooling_type == "STEP", "pooling_type STEP no longer resolves to tok_pooling_type"


def test_head_is_swapped_through_logits_processor():
    assert parameters(LogitsProcessor.forward)[1:4] == ["lm_head", "hidden_states", "embedding_bias"], (
        "LogitsProcessor.forward takes other arguments: see ScoringHead._swap_head"
    )
    assert issubclass(ParallelLMHead, VocabParallelEmbedding), "the output head is no longer a VocabParallelEmbedding"
    assert hasattr(UnquantizedEmbeddingMethod, "embedding"), "rows of a head can no longer be looked up"


def test_registering_twice_wraps_once():
    plugin.register()
    before = adapters.as_embedding_model, PoolingParams.verify, EngineArgs.add_cli_args
    plugin.register()
    assert (adapters.as_embedding_model, PoolingParams.verify, EngineArgs.add_cli_args) == before


def test_registering_never_raises(monkeypatch, caplog):
    monkeypatch.setattr(plugin, "_register", lambda: 1 / 0)
    with caplog.at_level(logging.WARNING, "vllm.vllm_prm"):
        logging.getLogger("vllm.vllm_prm").addHandler(caplog.handler)
        plugin.register()
    assert "could not hook into this vLLM" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_registering_is_cheap():
    """Best of three, because the machine may be busy: what comes on top of vLLM's own import stays under 50 ms."""
    code = (
        "import time; from vllm import LLM; from vllm.plugins import load_general_plugins\n"
        "start = time.perf_counter(); from vllm_prm.engine.plugin import register; register()\n"
        "print('ms', (time.perf_counter() - start) * 1000)"
    )
    times = []
    for _ in range(3):
        output = subprocess.check_output([sys.executable, "-c", code], text=True, stderr=subprocess.DEVNULL)
        times.append(float(output.split("ms")[-1]))
    assert min(times) < 50
