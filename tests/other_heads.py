"""Random checkpoints of reward models that do not score by vocabulary entries, and the logits of their heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from checkpoints import SMALL
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForTokenClassification, Qwen2Model

Logits = Callable[[list[int]], torch.Tensor]  # token ids -> [tokens, columns]

_QWEN = {**SMALL, "initializer_range": 0.2}


def own_head(folder: Path, tokenizer: Any, vocabulary: int = SMALL["vocab_size"]) -> Logits:
    """Qwen2.5-Math-PRM's shape: a Qwen2 with Linear, ReLU, Linear to two classes."""
    torch.manual_seed(0)
    model = Qwen2Model(Qwen2Config(**{**_QWEN, "vocab_size": vocabulary})).eval()
    size = model.config.hidden_size
    score = torch.nn.Sequential(torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Linear(size, 2))
    model.save_pretrained(folder)
    weights = {f"model.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights |= {f"score.{name}": tensor for name, tensor in score.state_dict().items()}
    _finish(folder, tokenizer, weights, "Qwen2ForProcessRewardModel")
    return torch.no_grad()(lambda ids: score(model(torch.tensor([ids])).last_hidden_state[0]))


def linear_head(
    folder: Path,
    tokenizer: Any,
    kind: tuple[type, type] = (Qwen2ForCausalLM, Qwen2Config),
    vocabulary: int = SMALL["vocab_size"],
    name: str = "v_head.summary",
    columns: int = 1,
    architecture: str = "Qwen2ForPrmModel",
    outer: str = "",
) -> Logits:
    """A language model without its lm_head, and a linear layer called `name`: Skywork's, PQM's, ReasonEval's shape.

    outer: put before the names of the language model's weights, as a wrapper does it.
    """
    torch.manual_seed(0)
    model = kind[0](kind[1](**{**_QWEN, "vocab_size": vocabulary})).eval()
    head = torch.nn.Linear(model.config.hidden_size, columns)
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    weights = {outer + key: tensor for key, tensor in weights.items()}
    weights |= {f"{name}.{key}": tensor.clone() for key, tensor in head.state_dict().items()}
    _finish(folder, tokenizer, weights, architecture)
    return torch.no_grad()(lambda ids: head(model.model(torch.tensor([ids])).last_hidden_state[0]))


def token_classes(
    folder: Path,
    tokenizer: Any,
    kind: tuple[type, type] = (Qwen2ForTokenClassification, Qwen2Config),
    vocabulary: int = SMALL["vocab_size"],
    columns: int = 2,
    bias: float = 1.0,
) -> Logits:
    """transformers' own ...ForTokenClassification, as TRL's PRMTrainer saves it. bias: of the first class."""
    torch.manual_seed(0)
    model = kind[0](kind[1](**{**_QWEN, "vocab_size": vocabulary, "num_labels": columns})).eval()
    model.score.bias.data[0] = bias  # transformers begins with 0, which would hide a bias that is lost
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return torch.no_grad()(lambda ids: model(torch.tensor([ids])).logits[0])


def _finish(folder: Path, tokenizer: Any, weights: dict[str, torch.Tensor], architecture: str) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": [architecture]}))
