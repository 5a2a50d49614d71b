"""Whether what we rely on in the installed vLLM is there.

The one place where that is written down: `vllm-prm doctor` asks it at the user's, tests/contract/test_seams.py while
we develop. Looked up, not run: no engine is started, no GPU is touched. MAINTAINING.md says what to do about a seam
that moved.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from vllm_prm.engine.compat import chat_utils, kv_planning
from vllm_prm.engine.start import plugin
from vllm_prm.engine.start.imports import vllm_imports
from vllm_prm.engine.start.lookups import abstract, find, has, says, takes

# What plugin.py wraps: where, what, the parameters that our wrapper passes on, and our file that follows when it moves.
SEAMS = (
    ("vllm.model_executor.models.adapters", "as_embedding_model", ("cls",), "engine/worker/model.py"),
    ("vllm.pooling_params", "PoolingParams.verify", ("self", "model_config"), "engine/start/requests.py"),
    ("vllm.engine.arg_utils", "EngineArgs.add_cli_args", ("parser",), "engine/start/flags.py"),
    (
        "vllm.engine.arg_utils",
        "EngineArgs.create_engine_config",
        ("self", "usage_context", "headless"),
        "engine/start/configuration.py",
    ),
)


def wrapped_functions() -> Iterator[str]:
    for module, name, parameters, our_file in SEAMS:
        yield from takes(module, name, parameters, our_file)
    owner = find("vllm.engine.arg_utils", "EngineArgs")
    if not isinstance(getattr(owner, "__dict__", {}).get("add_cli_args"), staticmethod):
        yield "EngineArgs.add_cli_args is no longer a static method: see engine/start/flags.py"


def model_is_converted_at_call_time() -> Iterator[str]:
    yield from says(
        "vllm.model_executor.model_loader.utils",
        "_get_model_architecture",
        ["from vllm.model_executor.models.adapters import as_embedding_model"],
        "the model loader no longer imports as_embedding_model at call time, so wrapping the module attribute has no "
        "effect: wrap it where the loader now finds it",
    )


def model_is_told_when_its_weights_are_loaded() -> Iterator[str]:
    yield from says(
        "vllm.model_executor.model_loader.utils",
        "process_weights_after_loading",
        ["model.process_weights_after_loading()"],
        "the model loader no longer calls the model when its weights are loaded, so its head is not checked at "
        "start-up: see engine/worker/model.py",
    )


def requests_are_checked_on_both_paths() -> Iterator[str]:
    for module in ("vllm.v1.engine.input_processor", "vllm.entrypoints.pooling.base.serving"):
        yield from says(
            module,
            None,
            [".verify(self.model_config)"],
            f"{module} no longer calls PoolingParams.verify: requests on that path reach the engine unchecked",
        )


def request_fields() -> Iterator[str]:
    names = ("task", "step_tag_id", "returned_token_ids", "skip_reading_prefix_cache", "use_activation", "extra_kwargs")
    yield from has("vllm.pooling_params", "PoolingParams", names, "engine/start/requests.py")


def reading_the_prefix_cache_is_the_requests_choice() -> Iterator[str]:
    yield from says(
        "vllm.v1.request",
        "Request.get_skip_reading_prefix_cache",
        ["pooling_params.skip_reading_prefix_cache"],
        "vLLM decides otherwise whether a pooling request reads the prefix cache: see engine/start/requests.py",
    )


def plugins_come_before_the_parser() -> Iterator[str]:
    yield from says(
        "vllm.engine.arg_utils",
        "AsyncEngineArgs.add_cli_args",
        ["load_general_plugins()", "EngineArgs.add_cli_args("],
        "vllm serve builds its parser before it loads plugins: --task and --prm cannot be added",
    )


def pooler_interface() -> Iterator[str]:
    interface, our_file = "vllm.model_executor.layers.pooler", "engine/worker/pooler.py"
    yield from abstract(interface, "Pooler", {"get_supported_tasks", "forward"}, our_file)
    yield from takes(interface, "Pooler.forward", ("self", "hidden_states", "pooling_metadata"), our_file)
    yield from has(interface, "PoolingParamsUpdate", ("requires_token_ids", "apply"), our_file)
    pool = "vllm.v1.pool.metadata"
    yield from has(pool, "PoolingCursor", ("seq_lens_cpu", "num_scheduled_tokens_cpu", "is_finished"), our_file)
    yield from has(pool, "PoolingMetadata", ("prompt_token_ids_cpu", "prompt_lens", "pooling_states"), our_file)
    try:
        find(pool, "PoolingStates")().prm = 1
    except (AttributeError, TypeError):
        yield f"{pool}.PoolingStates takes no attribute of our_file, where partial results live: see {our_file}"


def step_pooling_config() -> Iterator[str]:
    try:
        config = find("vllm.config", "PoolerConfig")(pooling_type="STEP", step_tag_id=1, returned_token_ids=[2])
        resolved = config.tok_pooling_type
    except Exception as error:  # noqa: BLE001 - pydantic's errors, and whatever a changed class raises
        resolved = error
    if resolved != "STEP":
        yield f"pooling_type STEP no longer resolves to tok_pooling_type, but to {resolved!r}: see engine/settings.py"


def output_head() -> Iterator[str]:
    processor, layers, our_file = (
        "vllm.model_executor.layers.logits_processor",
        "vllm.model_executor.layers.vocab_parallel_embedding",
        "engine/worker/head_columns.py",
    )
    call = ("self", "lm_head", "hidden_states", "embedding_bias")
    yield from takes(processor, "LogitsProcessor.forward", call, our_file, more=True)
    bounds = ("org_vocab_start_index", "org_vocab_end_index")  # of a rank's rows of the head
    yield from has(layers, "VocabParallelEmbeddingShardIndices", bounds, our_file)


def score_cache_is_a_layer() -> Iterator[str]:
    """One more layer of the KV cache, whose view [blocks, heads, block size, head size] its spec alone describes."""
    specs, layers, our_file = (
        "vllm.v1.kv_cache_interface",
        "vllm.model_executor.layers.attention_layer_base",
        "engine/worker/score_cache.py",
    )
    fields = ("block_size", "num_kv_heads", "head_size", "head_size_v", "dtype")
    yield from has(specs, "FullAttentionSpec", fields, our_file)
    if find(specs, "create_kv_cache_views") is None:
        yield f"{specs}.create_kv_cache_views is gone, which lays out a cache by its spec: see {our_file}"
    yield from abstract(layers, "AttentionLayerBase", {"get_attn_backend", "get_kv_cache_spec"}, our_file)
    yield from takes(layers, "AttentionLayerBase.bind_kv_cache", ("self", "kv_cache"), our_file)
    yield from says(
        "vllm.v1.worker.utils",
        None,
        [".bind_kv_cache(kv_cache)"],
        f"the runner no longer hands a layer its cache by bind_kv_cache: see {our_file}",
    )
    # A backend that had to say its cache's shape (get_kv_cache_shape) would be asked for one more method.
    backend = "vllm.v1.attention.backend"
    yield from abstract(backend, "AttentionBackend", {"get_name", "get_impl_cls", "get_builder_cls"}, our_file)
    yield from abstract(backend, "AttentionMetadataBuilder", {"__init__", "build"}, our_file)
    built_from = ("self", "kv_cache_spec", "layer_names", "vllm_config", "device")
    yield from takes(backend, "AttentionMetadataBuilder.__init__", built_from, our_file)
    yield from has(backend, "CommonAttentionMetadata", ("slot_mapping", "block_table_tensor"), our_file)


def layers_say_whether_they_read_both_ways() -> Iterator[str]:
    yield from has("vllm.v1.kv_cache_interface", "FullAttentionSpec", ("non_causal",), "engine/worker/layers.py")


def layers_without_a_window_beside_layers_with_one() -> Iterator[str]:
    flag, start = "disable_hybrid_kv_cache_manager", "engine/start/windows.py"
    yield from has("vllm.config", "SchedulerConfig", (flag,), start)
    yield from has("vllm.config", "CacheConfig", ("sliding_window",), start)
    yield from has("vllm.engine.arg_utils", "EngineArgs", (flag,), start)
    yield from says(
        kv_planning().__name__,
        "get_kv_cache_groups",
        [f"scheduler_config.{flag}"],
        f"vLLM no longer groups layers by {flag}: see {start}",
    )
    names, our_file = ("state_content_size_bytes", "tokens_per_state"), "engine/worker/layers.py"
    yield from has("vllm.v1.kv_cache_interface", "FullAttentionSpec", names, our_file)
    yield from takes("vllm.v1.attention.backend", "AttentionBackend.customize_spec", ("spec",), "engine/compat.py")


def images_are_vllms() -> Iterator[str]:
    """Fetched and checked by what reads chat messages, and given their tokens by the renderer."""
    module, ours = chat_utils().__name__, "engine/serve/pictures.py"
    read = ("messages", "model_config", "content_format")
    for name in ("parse_chat_messages", "parse_chat_messages_async"):
        yield from takes(module, name, read, ours, more=True)
    for name in ("process_for_engine", "process_for_engine_async"):
        asked = ("self", "prompt", "arrival_time", "skip_mm_cache")
        yield from takes("vllm.renderers.base", f"BaseRenderer.{name}", asked, ours, more=True)
    found_by = ("chat_template", "tools", "given_format", "tokenizer", "model_config")
    yield from takes("vllm.renderers.hf", "resolve_chat_template_content_format", found_by, ours)


def http_routes() -> Iterator[str]:
    yield from has("vllm.plugins.endpoint_plugins.interface", "EndpointPlugin", (), "engine/serve/routes.py")
    names = ("_check_model", "_maybe_get_adapters", "_base_request_id", "_log_inputs")
    yield from has("vllm.entrypoints.serve.engine.serving", "BaseServing", names, "engine/serve/serving.py")


def requests_name_an_engine() -> Iterator[str]:
    """Of a data-parallel server: `add_request` takes its rank, and `encode` goes through it."""
    ours, llm = "engine/serve/ranks.py", "vllm.v1.engine.async_llm"
    added = ["add_request(", "data_parallel_rank"]
    yield from says(llm, "AsyncLLM.add_request", added, f"AsyncLLM.add_request takes no rank any more: see {ours}")
    for name in ("encode", "generate"):
        moved = f"AsyncLLM.{name} no longer calls self.add_request: see {ours}"
        yield from says(llm, f"AsyncLLM.{name}", ["self.add_request("], moved)


def an_engine_that_ends_is_heard() -> Iterator[str]:
    ours = "engine/serve/ending.py"
    launcher, llm = "vllm.entrypoints.launchers.launcher", "vllm.v1.engine.async_llm"
    elsewhere = f"vLLM's launcher ends its engine otherwise, so requests may wait for ever then: see {ours}"
    yield from says(launcher, "serve_http", ["engine_client.shutdown"], elsewhere)
    told = f"AsyncLLM.shutdown ends the task that hands out answers otherwise; if it tells who waits, {ours} can go"
    yield from says(llm, "AsyncLLM.shutdown", ["cancel_task_threadsafe(handler)"], told)
    yield from takes("vllm.v1.engine.output_processor", "OutputProcessor.propagate_error", ("self", "e"), ours)


def everything_we_import() -> Iterator[str]:
    """Also what is imported only when a server or an engine starts, or with a request."""
    for module, name, our_file in vllm_imports():
        if find(module, name) is None:
            yield f"{module}{'.' if name else ''}{name or ''} cannot be imported: see {our_file}"


# Each yields a sentence for everything that is not as it was: what moved, and which file of our_file must follow.
CHECKS: tuple[Callable[[], Iterator[str]], ...] = (
    wrapped_functions,
    model_is_converted_at_call_time,
    model_is_told_when_its_weights_are_loaded,
    requests_are_checked_on_both_paths,
    request_fields,
    reading_the_prefix_cache_is_the_requests_choice,
    plugins_come_before_the_parser,
    pooler_interface,
    step_pooling_config,
    output_head,
    score_cache_is_a_layer,
    layers_say_whether_they_read_both_ways,
    layers_without_a_window_beside_layers_with_one,
    images_are_vllms,
    http_routes,
    requests_name_an_engine,
    an_engine_that_ends_is_heard,
    everything_we_import,
)


def missing_seams() -> Iterator[str]:
    """What all checks say; nothing if all is well."""
    for check in CHECKS:
        yield from check()


def unhooked() -> list[str]:
    """The seams that are not ours after `register()`; it reports by a warning, so here it is asked what came of it."""
    importlib.import_module("vllm.engine.arg_utils")  # register() wraps it only where it is loaded
    plugin.register()
    return [f"{module}.{name}" for module, name, _, _ in SEAMS if not hasattr(find(module, name), plugin.WRAPPED)]
