"""Small models of every kind of attention that the CPU build of vLLM runs, with an engine for each.

Configs are as checkpoints have them, but for sizes: windows are kept below the length of the tests' prompts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conftest import running, step_config
from oracle import tokens

from sweep import configs, tokenizer
from sweep.small_engine import SCORING, TAG

BLOCK = 32  # the smallest that vLLM's CPU attention takes
LONGEST = 448


@dataclass(frozen=True)
class Kind:
    """fields: of the config, beyond the small sizes. blocks: a pool with room for one long prompt, not for three.

    more_layers: of KV that the score cache costs; in models this small vLLM pads its groups by one layer.
    """

    architecture: str
    fields: dict[str, Any] = field(default_factory=dict)
    blocks: int = 20
    more_layers: int = 0


def layers(window: str, pattern: str, **fields: Any) -> dict[str, Any]:
    """layer_types by their initials: w for a window of the named kind, f for full attention."""
    kinds = [{"w": window, "f": "full_attention"}[kind] for kind in pattern]
    return {"num_hidden_layers": len(pattern), "layer_types": kinds, **fields}


SLIDING, CHUNKED = "sliding_attention", "chunked_attention"
KINDS = {
    "full (Llama)": Kind("LlamaForCausalLM"),
    "window 4096 in all layers (Mistral v0.1)": Kind("MistralForCausalLM", {"sliding_window": 4096}),
    "short window in all layers": Kind("MistralForCausalLM", {"sliding_window": 64}),
    "5 windows to 1 (Gemma 3)": Kind("Gemma3ForCausalLM", layers(SLIDING, "wwwwwf", sliding_window=64), 50, 2),
    "window 128 in every other layer (gpt-oss)": Kind(
        "GptOssForCausalLM", layers(SLIDING, "wfwf", sliding_window=128), 60, 2
    ),
    "windows and shared KV (Gemma 3n)": Kind(
        "Gemma3nForCausalLM",
        layers(
            SLIDING,
            "wfwfwf",
            sliding_window=64,
            num_kv_shared_layers=2,
            activation_sparsity_pattern=[0.95, *[0.0] * 5],
            intermediate_size=[256] * 6,
        ),
        60,
        2,
    ),
    "chunks (Llama 4)": Kind(
        "Llama4ForCausalLM", layers(CHUNKED, "wwwf", attention_chunk_size=64, no_rope_layers=[1, 1, 1, 0]), 60, 2
    ),
}


def prompt(seed: int, length: int) -> list[int]:
    """Ids of the sweep's small vocabulary; a step ends with every 15th token."""
    rng = random.Random(seed)
    return [TAG if i % 15 == 14 else rng.randrange(100, 900) for i in range(length)]


def save(folder: Path, kind: Kind) -> str:
    """config.json and tokenizer; the weights are made up when it is loaded. Returns the folder's path."""
    config = {**configs.small_config(kind.architecture), **kind.fields}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_tokenizer(str(folder))
    return str(folder)


@contextmanager
def engine(folder: str, **options: Any) -> Iterator[Any]:
    """Chunks of 64 tokens, four prompts side by side, prefix caching if `options` do not turn it off."""
    defaults = {
        "load_format": "dummy",
        "pooler_config": step_config(step_tag_id=TAG, returned_token_ids=list(SCORING[:2])),
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 256,
        "long_prefill_token_threshold": 64,
        "max_num_seqs": 4,
        "max_model_len": LONGEST,
        "block_size": BLOCK,
        "scheduler_reserve_full_isl": False,  # start prompts that the pool may have no room for
        "disable_log_stats": False,
    }
    with running(folder, **{**defaults, **options}) as llm:
        yield llm


def scored(llm: Any, *prompts: list[int]) -> tuple[list[torch.Tensor], list[int]]:
    """Probabilities [steps * scoring tokens] of each prompt, and how many of its tokens came from the cache."""
    outputs = llm.encode([tokens(ids) for ids in prompts], pooling_task="embed", use_tqdm=False)
    return [output.outputs.data for output in outputs], [output.num_cached_tokens for output in outputs]


@dataclass(frozen=True)
class KVGroups:
    """How an engine's KV is grouped. layers: in all groups. bytes_per_piece: of KV for one block of tokens."""

    block_sizes: list[int]
    layers: int
    bytes_per_piece: float
    page: int


def kv_groups(llm: Any) -> KVGroups:
    config = llm.llm_engine.engine_core.engine_core.scheduler.kv_cache_config
    specs = [group.kv_cache_spec for group in config.kv_cache_groups]
    return KVGroups(
        [spec.block_size for spec in specs],
        sum(len(group.layer_names) for group in config.kv_cache_groups),
        len(specs) * config.kv_cache_tensors[0].size / config.num_blocks,
        specs[0].page_size_bytes,
    )
