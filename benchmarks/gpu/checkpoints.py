"""Checkpoints with random weights for the checks: small, but with the head sizes that the kernels of GPUs are made for.

Weights are bfloat16 on disk, so that an engine in bfloat16 and an oracle in float32 start from the same numbers. The
tokenizer is that of examples/tiny-prm: prompts are token ids, so it only has to know the scoring tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from model import Tokens
from transformers import (
    AutoTokenizer,
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from gpu.machine import ROOT

TINY_PRM = ROOT / "examples" / "tiny-prm"
TOKENS = Tokens(tag=318, scoring=(332, 333), pieces=("▁+", "▁-"))  # of examples/tiny-prm/prm.json
WINDOW = 4096  # tokens; of Mistral 7B v0.1, and so of Math-Shepherd

# A spread of 1 / sqrt(hidden size) keeps the size of what a matrix multiplies, so logits differ by about one.
SIZES: dict[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,  # of Llama and Mistral: what attention kernels of GPUs are compiled for
    "max_position_embeddings": 16_384,
    "initializer_range": 512**-0.5,
}
# DeepSeek V2 Lite's latent attention, without experts: kernels of GPUs take no other sizes.
MLA_SIZES: dict[str, Any] = {
    **{name: size for name, size in SIZES.items() if name != "head_dim"},
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "first_k_dense_replace": SIZES["num_hidden_layers"],  # no layer has experts
}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES))


def mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW))


def mla() -> PreTrainedModel:
    return DeepseekV2ForCausalLM(DeepseekV2Config(**MLA_SIZES))


def save(folder: Path, build: Callable[[], PreTrainedModel]) -> Path:
    """Write the checkpoint, the same in every process, and the tokenizer; returns the folder."""
    torch.manual_seed(0)
    build().to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    AutoTokenizer.from_pretrained(TINY_PRM).save_pretrained(folder)


def set_config(folder: Path, **fields: Any) -> None:
    """Change fields of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}, indent=1), "utf-8")
