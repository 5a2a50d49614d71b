"""What we rely on in vLLM. When one of these fails, the sentence says what moved; MAINTAINING.md says what to do."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import torch
from vllm import exceptions
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.model_executor.layers import vocab_parallel_embedding
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.pooler import Pooler
from vllm.model_executor.model_loader import utils as loader
from vllm.model_executor.models import adapters
from vllm.pooling_params import PoolingParams
from vllm.renderers.base import BaseRenderer
from vllm.v1 import kv_cache_interface
from vllm.v1.attention.backend import AttentionBackend
from vllm.v1.pool.metadata import PoolingCursor
from vllm.v1.request import Request

from vllm_prm.cli.doctor import PLUGINS
from vllm_prm.engine.compat import chat_utils, kv_planning
from vllm_prm.engine.start import plugin, seams
from vllm_prm.engine.worker.model import as_process_reward_model


def test_the_entry_point_is_installed_once():
    for group, value in PLUGINS:
        found = [point.value for point in entry_points(group=group) if point.name == "prm"]
        assert found == [value], f"the package is not installed, or {group} has another 'prm': run `make setup`"


@pytest.mark.parametrize("check", seams.CHECKS, ids=lambda check: check.__name__)
def test_vllm_is_as_we_need_it(check):
    said = list(check())
    assert not said, "\n".join(said)


def elsewhere():
    """What stands where something of vLLM's stood that is now in another place."""


@pytest.mark.parametrize(
    ("owner", "name", "now", "says"),
    [
        (adapters, "as_embedding_model", elsewhere, "takes [], expected ['cls']: see engine/worker/model.py"),
        (PoolingParams, "verify", None, "PoolingParams.verify is gone: see engine/start/requests.py"),
        (EngineArgs, "add_cli_args", elsewhere, "no longer a static method: see engine/start/flags.py"),
        (AsyncEngineArgs, "add_cli_args", elsewhere, "builds its parser before it loads plugins"),
        (loader, "_get_model_architecture", elsewhere, "no longer imports as_embedding_model at call time"),
        (loader, "process_weights_after_loading", elsewhere, "no longer calls the model when its weights are loaded"),
        (Request, "get_skip_reading_prefix_cache", elsewhere, "whether a pooling request reads the prefix cache"),
        (
            Pooler,
            "__abstractmethods__",
            frozenset(),
            "Pooler has other abstract methods, [], expected ['forward', 'get_supported_tasks']: see",
        ),
        (PoolingCursor, "is_finished", None, "PoolingCursor lost is_finished: see engine/worker/pooler.py"),
        (
            kv_cache_interface,
            "FullAttentionSpec",
            elsewhere,
            "FullAttentionSpec lost non_causal: see engine/worker/layers.py",
        ),
        (EngineArgs, "create_engine_config", None, "create_engine_config is gone: see engine/start/configuration.py"),
        (kv_planning(), "get_kv_cache_groups", elsewhere, "vLLM no longer groups layers by disable_hybrid_kv_cache"),
        (AttentionBackend, "customize_spec", None, "AttentionBackend.customize_spec is gone: see engine/compat.py"),
        (
            kv_cache_interface,
            "FullAttentionSpec",
            elsewhere,
            "FullAttentionSpec lost head_size_v: see engine/worker/score_cache.py",
        ),
        (kv_cache_interface, "create_kv_cache_views", None, "create_kv_cache_views is gone, which lays out a cache"),
        (AttentionLayerBase, "bind_kv_cache", None, "AttentionLayerBase.bind_kv_cache is gone"),
        (
            AttentionBackend,
            "__abstractmethods__",
            AttentionBackend.__abstractmethods__ | {"get_kv_cache_shape"},
            "AttentionBackend has other abstract methods, ['get_builder_cls', 'get_impl_cls', 'get_kv_cache_shape', ",
        ),
        (
            exceptions,
            "VLLMNotFoundError",
            None,
            "vllm.exceptions.VLLMNotFoundError cannot be imported: see engine/serve/refusals.py",
        ),
        (chat_utils(), "parse_chat_messages", None, "parse_chat_messages is gone: see engine/serve/pictures.py"),
        (BaseRenderer, "process_for_engine", elsewhere, "process_for_engine takes [], expected ['self', 'prompt', "),
        (LogitsProcessor, "forward", elsewhere, "LogitsProcessor.forward takes [], expected ['self', 'lm_head', "),
        (
            vocab_parallel_embedding,
            "VocabParallelEmbeddingShardIndices",
            None,
            "ShardIndices is gone: see engine/worker",
        ),
    ],
)
def test_what_moved_is_said(monkeypatch, owner, name, now, says):
    if now is None:
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, now)
    assert any(says in sentence for sentence in seams.missing_seams())


def test_model_seam_resolves_once_per_engine_not_per_pooler_config():
    class PlainForCausalLM(torch.nn.Module):
        def __init__(self, *, vllm_config, prefix=""):
            super().__init__()

    plugin.register()
    converted = adapters.as_embedding_model(PlainForCausalLM)
    assert converted.__name__ == "PlainForEmbedding", "the embedding adapter names its classes otherwise"
    assert converted.is_pooling_model, "the embedding adapter no longer marks its classes as pooling models"
    assert as_process_reward_model(lambda cls: cls, converted) is converted, "a class vLLM left alone was touched"


def test_registering_twice_wraps_once():
    plugin.register()

    def wrapped():
        options = EngineArgs.add_cli_args, EngineArgs.create_engine_config
        return adapters.as_embedding_model, PoolingParams.verify, *options

    before = wrapped()
    plugin.register()
    assert wrapped() == before


def test_registering_never_raises(monkeypatch, vllm_log):
    monkeypatch.setattr(plugin, "_register", lambda: 1 / 0)
    plugin.register()
    assert "could not hook into this vLLM" in vllm_log.text
    assert "ZeroDivisionError" in vllm_log.text


def test_registering_is_cheap():
    """What comes on top of vLLM's own import stays under 50 ms, in the first of three tries where it does."""
    code = (
        "import time; from vllm import LLM; from vllm.plugins import load_general_plugins\n"
        "start = time.perf_counter(); from vllm_prm.engine.start.plugin import register; register()\n"
        "print('ms', (time.perf_counter() - start) * 1000)"
    )
    times = []
    for _ in range(3):  # the machine may be busy
        output = subprocess.check_output([sys.executable, "-c", code], text=True, stderr=subprocess.DEVNULL)
        times.append(float(output.split("ms")[-1]))
        if times[-1] < 50:
            return
    raise AssertionError(f"registering took {times} ms")
