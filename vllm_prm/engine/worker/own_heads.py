"""Heads of reward models that do not score by vocabulary entries: a head of the model's own, or a value head.

Both answer like ScoringHead: hidden states [N, hidden] and column indices -> logits [N, columns].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch


class OwnHead:
    """The model's forward pass already ends in its head: a row of its output holds one logit per class."""

    def __init__(self, model: torch.nn.Module) -> None:
        pass

    def prepare(self, hidden: torch.Tensor) -> None:
        """Nothing to check: no part of a head stands in for the whole."""

    def __call__(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return hidden[:, ids]


class ValueHead:
    """A linear layer from hidden states to one value per token, beside the language model.

    Its weights are called `v_head.summary.*` in the checkpoint: TRL's AutoModelForCausalLMWithValueHead saves them so
    (https://github.com/huggingface/trl/blob/v0.11.0/trl/models/modeling_value_head.py). Computed in float32.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def prepare(self, hidden: torch.Tensor) -> None:
        """Nothing to check: the whole head runs."""

    def __call__(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self._model.v_head.summary(hidden.float())
        return values[:, ids]


def add_value_head(model: torch.nn.Module, hidden_size: int) -> None:
    """Give `model` the parameters of a value head, under their names in the checkpoint."""
    model.v_head = torch.nn.Module()
    model.v_head.summary = torch.nn.Linear(hidden_size, 1, dtype=torch.float32)


def load_with_value_head(model: Any, generation_cls: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> Any:
    """Load a checkpoint's weights: the value head's here, the others as `generation_cls` does.

    Returns the names of what was loaded, or None where `generation_cls` gives none.
    """
    value_head = dict(model.v_head.named_parameters(prefix="v_head"))
    loaded_here: set[str] = set()

    def others() -> Iterator[tuple[str, torch.Tensor]]:
        for name, weight in weights:
            name = name.removeprefix("pretrained_model.")  # TRL's wrapper, in checkpoints saved whole
            if (parameter := value_head.get(name)) is None:
                yield name, weight
            else:
                parameter.data.copy_(weight.view_as(parameter))
                loaded_here.add(name)

    loaded = generation_cls.load_weights(model, others())
    if loaded is None:
        return None
    unused = {name for name, _ in model.named_parameters() if name.startswith("lm_head.")}
    return loaded | loaded_here | unused  # a checkpoint with a value head need not bring its lm_head
