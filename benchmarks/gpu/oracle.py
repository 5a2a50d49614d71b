"""What scores must be: transformers in float32 on the same device, on the weights of the checkpoint."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from gpu.checkpoints import TOKENS

Scores = list[torch.Tensor]  # per prompt [steps, scoring tokens], probabilities


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def tags(ids: list[int]) -> list[int]:
    return [position for position, id_ in enumerate(ids) if id_ == TOKENS.tag]


@dataclass(frozen=True)
class Expected:
    """scores: at the step tags. beside: one token before each, which an error of one position would give."""

    scores: Scores
    beside: Scores


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device()).eval()


def expected(model: PreTrainedModel, prompts: list[list[int]]) -> Expected:
    """What `model` says of each prompt; its memory is given back afterwards."""
    scores, beside = [], []
    for ids in prompts:
        scores.append(_probabilities(model, ids, tags(ids)))
        beside.append(_probabilities(model, ids, [position - 1 for position in tags(ids)]))
    model.to("cpu")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Expected(scores, beside)


@torch.no_grad()
def _probabilities(model: PreTrainedModel, ids: list[int], positions: list[int]) -> torch.Tensor:
    """[positions, scoring tokens], on the CPU"""
    rows = torch.tensor(positions, device=model.device)  # the head runs on these rows only
    logits = model(torch.tensor([ids], device=model.device), logits_to_keep=rows).logits[0]
    return logits[:, list(TOKENS.scoring)].float().softmax(-1).cpu()
