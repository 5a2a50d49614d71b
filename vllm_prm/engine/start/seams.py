"""Whether what we rely on in the installed vLLM is there.

The one place where that is written down: `vllm-prm doctor` asks it at the user's, tests/contract/test_seams.py while
we develop. Looked up, not run: no engine is started, no GPU is touched. MAINTAINING.md says what to do about a seam
that moved.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vllm_prm.engine.start import plugin

# What plugin.py wraps: where, what, the parameters that our wrapper passes on, and our file that follows when it moves.
SEAMS = (
    ("vllm.model_executor.models.adapters", "as_embedding_model", ("cls",), "engine/worker/model.py"),
    ("vllm.pooling_params", "PoolingParams.verify", ("self", "model_config"), "engine/start/requests.py"),
    ("vllm.engine.arg_utils", "EngineArgs.add_cli_args", ("parser",), "engine/start/flags.py"),
    (
        "vllm.engine.arg_utils",
        "EngineArgs.create_engine_config",
        ("self", "usage_context", "headless"),
        "engine/start/windows.py",
    ),
)


def wrapped_functions() -> Iterator[str]:
    for module, name, parameters, ours in SEAMS:
        yield from _takes(module, name, parameters, ours)
    owner = _find("vllm.engine.arg_utils", "EngineArgs")
    if not isinstance(getattr(owner, "__dict__", {}).get("add_cli_args"), staticmethod):
        yield "EngineArgs.add_cli_args is no longer a static method: see engine/start/flags.py"


def model_is_converted_at_call_time() -> Iterator[str]:
    yield from _says(
        "vllm.model_executor.model_loader.utils",
        "_get_model_architecture",
        ["from vllm.model_executor.models.adapters import as_embedding_model"],
        "the model loader no longer imports as_embedding_model at call time, so wrapping the module attribute has no "
        "effect: wrap it where the loader now finds it",
    )


def model_is_told_when_its_weights_are_loaded() -> Iterator[str]:
    yield from _says(
        "vllm.model_executor.model_loader.utils",
        "process_weights_after_loading",
        ["model.process_weights_after_loading()"],
        "the model loader no longer calls the model when its weights are loaded, so its head is not checked at "
        "start-up: see engine/worker/model.py",
    )


def requests_are_checked_on_both_paths() -> Iterator[str]:
    for module in ("vllm.v1.engine.input_processor", "vllm.entrypoints.pooling.base.serving"):
        yield from _says(
            module,
            None,
            [".verify(self.model_config)"],
            f"{module} no longer calls PoolingParams.verify: requests on that path reach the engine unchecked",
        )


def request_fields() -> Iterator[str]:
    names = ("task", "step_tag_id", "returned_token_ids", "skip_reading_prefix_cache", "use_activation", "extra_kwargs")
    yield from _has("vllm.pooling_params", "PoolingParams", names, "engine/start/requests.py")


def reading_the_prefix_cache_is_the_requests_choice() -> Iterator[str]:
    yield from _says(
        "vllm.v1.request",
        "Request.get_skip_reading_prefix_cache",
        ["pooling_params.skip_reading_prefix_cache"],
        "vLLM decides otherwise whether a pooling request reads the prefix cache: see engine/start/requests.py",
    )


def plugins_come_before_the_parser() -> Iterator[str]:
    yield from _says(
        "vllm.engine.arg_utils",
        "AsyncEngineArgs.add_cli_args",
        ["load_general_plugins()", "EngineArgs.add_cli_args("],
        "vllm serve builds its parser before it loads plugins: --task and --prm cannot be added",
    )


def pooler_interface() -> Iterator[str]:
    interface, ours = "vllm.model_executor.layers.pooler", "engine/worker/pooler.py"
    abstract = getattr(_find(interface, "Pooler"), "__abstractmethods__", None)
    if abstract != {"get_supported_tasks", "forward"}:
        yield f"vLLM's Pooler has other abstract methods, {sorted(abstract or ())}: see {ours}"
    yield from _takes(interface, "Pooler.forward", ("self", "hidden_states", "pooling_metadata"), ours)
    yield from _has(interface, "PoolingParamsUpdate", ("requires_token_ids", "apply"), ours)
    pool = "vllm.v1.pool.metadata"
    yield from _has(pool, "PoolingCursor", ("seq_lens_cpu", "num_scheduled_tokens_cpu", "is_finished"), ours)
    yield from _has(pool, "PoolingMetadata", ("prompt_token_ids_cpu", "prompt_lens", "pooling_states"), ours)
    try:
        _find(pool, "PoolingStates")().prm = 1
    except (AttributeError, TypeError):
        yield f"{pool}.PoolingStates takes no attribute of ours, where partial results live: see {ours}"


def step_pooling_config() -> Iterator[str]:
    try:
        config = _find("vllm.config", "PoolerConfig")(pooling_type="STEP", step_tag_id=1, returned_token_ids=[2])
        resolved = config.tok_pooling_type
    except Exception as error:  # noqa: BLE001 - pydantic's errors, and whatever a changed class raises
        resolved = error
    if resolved != "STEP":
        yield f"pooling_type STEP no longer resolves to tok_pooling_type, but to {resolved!r}: see engine/settings.py"


def output_head() -> Iterator[str]:
    processor, layers, ours = (
        "vllm.model_executor.layers.logits_processor",
        "vllm.model_executor.layers.vocab_parallel_embedding",
        "engine/worker/head_columns.py",
    )
    call = ("self", "lm_head", "hidden_states", "embedding_bias")
    yield from _takes(processor, "LogitsProcessor.forward", call, ours, more=True)
    head, embedding = _find(layers, "ParallelLMHead"), _find(layers, "VocabParallelEmbedding")
    if not (inspect.isclass(head) and inspect.isclass(embedding) and issubclass(head, embedding)):
        yield f"the output head, {layers}.ParallelLMHead, is no longer a VocabParallelEmbedding: see {ours}"
    # Its base class has one too, which only raises.
    yield from _takes(layers, "UnquantizedEmbeddingMethod.embedding", ("self", "layer", "input_"), ours)


def layers_say_whether_they_read_both_ways() -> Iterator[str]:
    yield from _has("vllm.v1.kv_cache_interface", "FullAttentionSpec", ("non_causal",), "engine/worker/layers.py")


def layers_without_a_window_beside_layers_with_one() -> Iterator[str]:
    flag, start = "disable_hybrid_kv_cache_manager", "engine/start/windows.py"
    yield from _has("vllm.config", "SchedulerConfig", (flag,), start)
    yield from _has("vllm.config", "CacheConfig", ("sliding_window",), start)
    yield from _has("vllm.engine.arg_utils", "EngineArgs", (flag,), start)
    yield from _says(
        "vllm.v1.core.kv_cache_utils",
        "get_kv_cache_groups",
        [f"scheduler_config.{flag}"],
        f"vLLM no longer groups layers by {flag}: see {start}",
    )
    names, ours = ("state_content_size_bytes", "tokens_per_state"), "engine/worker/layers.py"
    yield from _has("vllm.v1.kv_cache_interface", "FullAttentionSpec", names, ours)
    yield from _takes("vllm.v1.worker.utils", "customize_attention_spec", ("backend", "spec"), ours)


def http_routes() -> Iterator[str]:
    yield from _has("vllm.plugins.endpoint_plugins.interface", "EndpointPlugin", (), "engine/serve/routes.py")
    names = ("_check_model", "_maybe_get_adapters", "_base_request_id", "_get_trace_headers", "_log_inputs")
    yield from _has("vllm.entrypoints.serve.engine.serving", "BaseServing", names, "engine/serve/serving.py")


# Each yields a sentence for everything that is not as it was: what moved, and which file of ours must follow.
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
    layers_say_whether_they_read_both_ways,
    layers_without_a_window_beside_layers_with_one,
    http_routes,
)


def missing_seams() -> Iterator[str]:
    """What all checks say; nothing if all is well."""
    for check in CHECKS:
        yield from check()


def unhooked() -> list[str]:
    """The seams that are not ours after `register()`; it reports by a warning, so here it is asked what came of it."""
    importlib.import_module("vllm.engine.arg_utils")  # register() wraps it only where it is loaded
    plugin.register()
    return [f"{module}.{name}" for module, name, _, _ in SEAMS if not hasattr(_find(module, name), plugin._WRAPPED)]


def _takes(module: str, name: str, expected: Sequence[str], ours: str, more: bool = False) -> Iterator[str]:
    """Unless the function takes these parameters. more: others may follow them."""
    target = _find(module, name)
    if target is None:
        yield f"{module}.{name} is gone: see {ours}"
        return
    parameters = list(inspect.signature(_original(target)).parameters)
    if (parameters[: len(expected)] if more else parameters) != list(expected):
        yield f"{module}.{name} takes {parameters}, expected {list(expected)}: see {ours}"


def _has(module: str, name: str, attributes: Sequence[str], ours: str) -> Iterator[str]:
    """Unless the class is there and has these fields, methods or properties."""
    target = _find(module, name)
    if target is None:
        yield f"{module}.{name} is gone: see {ours}"
        return
    fields = {field.name for field in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else set()
    for attribute in attributes:
        if attribute not in fields and not hasattr(target, attribute):
            yield f"{module}.{name} lost {attribute}: see {ours}"


def _says(module: str, name: str | None, texts: Sequence[str], otherwise: str) -> Iterator[str]:
    """Unless the source of a function (None: of the module) has these texts, first met in this order."""
    target = _find(module, name)
    source = "" if target is None else inspect.getsource(_original(target))
    places = [source.find(text) for text in texts]
    if -1 in places or places != sorted(places):
        yield otherwise


def _find(module: str, name: str | None) -> Any:
    """The named thing, by dots; None if it is not there."""
    try:
        target: Any = importlib.import_module(module)
    except ImportError:
        return None
    for part in name.split(".") if name else ():
        target = getattr(target, part, None)
    return target


def _original(target: Any) -> Any:
    """As vLLM wrote it, where our wrapper is in its place."""
    return getattr(target, plugin._WRAPPED, target)
