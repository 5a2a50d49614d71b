"""Random LoRA adapters in PEFT's format, and transformers with them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from oracle import Oracle
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

RANK, ALPHA = 8, 16


def adapter(folder: Path, seed: int, sizes: dict[str, tuple[int, int]], saved: dict[str, torch.Tensor] | None = None):
    """An adapter in PEFT's format for the named matrices [out, in]; returns what it adds to each."""
    generator = torch.Generator().manual_seed(seed)
    tensors, added = {}, {}
    for name, (out, in_) in sizes.items():
        a, b = torch.randn(RANK, in_, generator=generator) * 0.1, torch.randn(out, RANK, generator=generator) * 0.1
        tensors |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
        added[name] = b @ a * ALPHA / RANK
    tensors |= {f"base_model.model.{name}.weight": weight for name, weight in (saved or {}).items()}
    config = {
        **{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none"},
        **{"target_modules": sorted({name.rsplit(".", 1)[-1] for name in sizes})},
        **{"modules_to_save": list(saved) if saved else None},
    }
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return added


def oracle_with(model: str, folder: Path, added: dict[str, torch.Tensor]) -> Oracle:
    """transformers with the adapter merged into the weights."""
    merged = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    for name, delta in added.items():
        merged.get_submodule(name).weight.data += delta
    merged.save_pretrained(folder)
    return Oracle(str(folder))
