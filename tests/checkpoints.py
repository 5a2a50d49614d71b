"""Random checkpoints that vLLM and transformers both load, with the real Mistral v1 vocabulary beside them.

The weights mean nothing; what counts is that both sides compute the same numbers from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import mistral_common
import torch
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SENTENCEPIECE = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
TAG, GLUED, PLUS, MINUS = 12902, 1107, 648, 387  # ▁ки, ки, ▁+, ▁- in Mistral v1

# vLLM's CPU attention wants a head size of at least 32. Weights of this spread keep float32 rounding near 1e-6.
SMALL = {
    "vocab_size": 32000,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
    "initializer_range": 0.1,
}


def mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=4096))  # as Mistral 7B v0.1 and Math-Shepherd


def tied_llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True))


def soft_capped_gemma2() -> PreTrainedModel:
    config = Gemma2Config(**SMALL, head_dim=32, sliding_window=4096, final_logit_softcapping=1.0)
    return Gemma2ForCausalLM(config)


def real_tokenizer() -> PreTrainedTokenizerFast:
    """Mistral v1's sentencepiece model as transformers 4 read it: with BOS, and a space before the first word."""
    with TemporaryDirectory() as folder:
        shutil.copy(SENTENCEPIECE, Path(folder) / "tokenizer.model")
        backend = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def save(folder: Path, build: Callable[[], PreTrainedModel]) -> str:
    """Write the checkpoint and tokenizer to `folder`; returns its path."""
    torch.manual_seed(0)
    build().save_pretrained(folder)
    real_tokenizer().save_pretrained(folder)
    return str(folder)
