"""Whether what we rely on in the installed vLLM is there, and whether a model fits a recipe. For `vllm-prm doctor`.

The same seams as tests/contract/test_seams.py guards while we develop, asked at the user's: looked up, not run, so no
engine is started and no GPU is touched.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from vllm_prm.engine import plugin
from vllm_prm.recipes import Recipe

# Where, what is called, the parameters that our wrapper passes on, and which of our files must follow when it moves.
SEAMS = (
    ("vllm.model_executor.models.adapters", "as_embedding_model", ("cls",), "engine/model.py"),
    ("vllm.pooling_params", "PoolingParams.verify", ("self", "model_config"), "engine/requests.py"),
    ("vllm.engine.arg_utils", "EngineArgs.add_cli_args", ("parser",), "engine/flags.py"),
)

# Text that must stand in a function's source for our seam to be reached: what calls it, and from where.
CALLERS = (
    ("vllm.model_executor.model_loader.utils", "_get_model_architecture", "import as_embedding_model"),
    ("vllm.v1.engine.input_processor", None, ".verify(self.model_config)"),
    ("vllm.entrypoints.pooling.base.serving", None, ".verify(self.model_config)"),
    ("vllm.engine.arg_utils", "AsyncEngineArgs.add_cli_args", "load_general_plugins()"),
)

# Names that we import or read, wherever they are needed.
NAMES = (
    ("vllm.model_executor.layers.logits_processor", "LogitsProcessor"),
    ("vllm.model_executor.layers.pooler", "Pooler"),
    ("vllm.model_executor.layers.vocab_parallel_embedding", "UnquantizedEmbeddingMethod.embedding"),
    ("vllm.v1.pool.metadata", "PoolingCursor.is_finished"),
    ("vllm.v1.pool.metadata", "PoolingMetadata.get_prompt_token_ids_cpu"),
    ("vllm.plugins.endpoint_plugins.interface", "EndpointPlugin"),
)


def missing_seams() -> Iterator[str]:
    """A sentence for everything that we rely on and that is not as it was; nothing if all is well."""
    for module, name, expected, ours in SEAMS:
        found = _find(module, name)
        if found is None:
            yield f"{module}.{name} is gone ({ours} needs it)"
            continue
        parameters = tuple(inspect.signature(getattr(found, plugin._WRAPPED, found)).parameters)
        if parameters != expected:
            yield f"{module}.{name} takes {list(parameters)}, expected {list(expected)} ({ours} needs that)"
    for module, caller, text in CALLERS:
        owner = _find(module, caller)
        if owner is None or text not in inspect.getsource(getattr(owner, plugin._WRAPPED, owner)):
            yield f"{module}{f'.{caller}' if caller else ''} no longer has {text!r}, by which vLLM came to our code"
    for module, name in NAMES:
        if _find(module, name) is None:
            yield f"{module}.{name} is gone"


def unhooked() -> list[str]:
    """The seams that are not ours after `register()`; it reports by a warning, so here it is asked what came of it."""
    importlib.import_module("vllm.engine.arg_utils")  # register() wraps it only where it is loaded
    plugin.register()
    return [f"{module}.{name}" for module, name, _, _ in SEAMS if not hasattr(_find(module, name), plugin._WRAPPED)]


def misfits(model: str, recipe: Recipe, options: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """(whether it stops the engine, what does not fit) of a model and a recipe; only config and tokenizer are read.

    options: as `LLM` takes them, beside the model.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.tokenizers import cached_tokenizer_from_config

    from vllm_prm.engine.options import engine_options
    from vllm_prm.engine.vocabulary import probe_complaint, recipe_settings

    try:
        config = EngineArgs(model=model, **engine_options(recipe, options)).create_model_config()
        tokenizer = cached_tokenizer_from_config(config)
        recipe_settings(recipe, tokenizer, config)
    except Exception as error:  # noqa: BLE001 - whatever stops it here stops the engine, and is what to report
        yield True, f"{type(error).__name__}: {error}"
        return
    if complaint := probe_complaint(recipe, tokenizer):
        yield False, complaint


def _find(module: str, name: str | None) -> Any:
    """The named thing, by dots, as it stands in its class or module; None if it is not there."""
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return None
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return found
