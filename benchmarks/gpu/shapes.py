"""Checkpoints of real sizes with random weights, written once and loaded by the engines of all ways.

On disk, and not made up by each engine, because the ways must give the same scores.
"""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from gpu.checkpoints import WINDOW, save_tokenizer
from gpu.findings import NotPossible
from gpu.oracle import device
from gpu.plan import weights_of

LAYERS: dict[str, Any] = {  # of Llama 3.1 8B and of Mistral 7B v0.1 alike
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32_768,
}
TINY: dict[str, Any] = {
    **{"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32_000},
}
SHARD_BYTES = 4 << 30  # as Hugging Face cuts checkpoints, about
GB = 1e9


def _model(shape: str, tiny: bool) -> PreTrainedModel:
    """On no device: names and sizes only."""
    small = TINY if tiny else {}
    with torch.device("meta"):
        if shape == "llama":
            return LlamaForCausalLM(LlamaConfig(**{**LAYERS, "vocab_size": 128_256, **small}))
        config = MistralConfig(**{**LAYERS, "vocab_size": 32_000, **small}, sliding_window=WINDOW)
        return MistralForCausalLM(config)


def checkpoint(shape: str, weights: Path, tiny: bool) -> Path:
    """The folder of this checkpoint in `weights`; written if it is not there. Raises NotPossible if it has no room."""
    folder = weights_of(shape, weights, tiny)
    if folder.exists():
        return folder
    model = _model(shape, tiny)
    sizes = {name: 2 * tensor.numel() for name, tensor in model.state_dict().items()}  # bytes, in bfloat16
    weights.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(weights).free < 1.1 * sum(sizes.values()):
        raise NotPossible(f"needs {1.1 * sum(sizes.values()) / GB:.0f} GB of disk in {weights}: name another --weights")
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    shard: dict[str, torch.Tensor] = {}
    for number, (name, tensor) in enumerate(model.state_dict().items(), start=1):
        shard[name] = _random(name, tensor.shape)
        if sum(sizes[each] for each in shard) > SHARD_BYTES or number == len(sizes):
            save_file(shard, unfinished / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
            shard = {}
    model.config.architectures, model.config.dtype = [type(model).__name__], torch.bfloat16
    model.config.save_pretrained(unfinished)
    save_tokenizer(unfinished)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # this process stays, beside the engine's
    return unfinished.rename(folder)


def _random(name: str, shape: torch.Size) -> torch.Tensor:
    """Weights that keep the size of what they multiply, so that logits spread by about one; norms are ones."""
    if len(shape) < 2:
        return torch.ones(shape, dtype=torch.bfloat16)
    generator = torch.Generator(device()).manual_seed(zlib.crc32(name.encode()))
    spread = 1.0 if "embed" in name else shape[-1] ** -0.5
    values = torch.randn(shape, generator=generator, device=device(), dtype=torch.bfloat16)
    return (values * spread).cpu()
