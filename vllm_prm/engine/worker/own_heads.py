"""Heads of reward models that do not score by vocabulary entries: a head of the model's own, or a linear layer.

Both answer like ScoringHead: hidden states [N, hidden] and column indices -> logits [N, columns].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from vllm_prm.errors import RecipeError

Weights = Iterable[tuple[str, torch.Tensor]]


class OwnHead:
    """The model's forward pass already ends in its head: a row of its output holds one logit per class."""

    def __init__(self, model: torch.nn.Module) -> None:
        pass

    def prepare(self, hidden: torch.Tensor) -> None:
        """Nothing to check: no part of a head stands in for the whole."""

    def prepare_loaded(self, hidden_size: int, dtype: torch.dtype) -> None:
        """As `prepare`."""

    def __call__(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return hidden[:, ids]


class LinearHead:
    """A linear layer from hidden states to one logit per class, which add_linear_layer gave the model. In float32."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._layer: LinearLayer = model.prm_head

    def prepare(self, hidden: torch.Tensor) -> None:
        self._layer.check()

    def prepare_loaded(self, hidden_size: int, dtype: torch.dtype) -> None:
        """Raises RecipeError if weights were loaded, and none of this layer were among them."""
        self._layer.check()

    def __call__(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._layer(hidden.float())
        return logits[:, ids]


class LinearLayer(torch.nn.Linear):
    """What the checkpoint calls by one of `names`. A checkpoint without a bias has one of 0."""

    def __init__(self, hidden_size: int, columns: int, names: tuple[str, ...]) -> None:
        super().__init__(hidden_size, columns, dtype=torch.float32)
        torch.nn.init.zeros_(self.bias)
        self.names = names
        self._asked = self._found = False  # whether weights were loaded at all, and ours among them

    def load(self, weights: Weights, load_others: Callable[[Weights], Any], prefix: str) -> Any:
        """Load this layer's weights here, hand the others on, and return what the loader wants: names, or None.

        prefix: the layer's own in its model. Raises RecipeError for weights of another shape.
        """
        self._asked = True
        loaded = load_others(self._others(weights))
        return None if loaded is None else loaded | {f"{prefix}.weight", f"{prefix}.bias"}

    def _others(self, weights: Weights) -> Iterator[tuple[str, torch.Tensor]]:
        parameters = {f"{name}.{kind}": parameter for name in self.names for kind, parameter in self.named_parameters()}
        for name, weight in weights:
            name = name.removeprefix("pretrained_model.")  # TRL's AutoModelForCausalLMWithValueHead, saved whole
            if (parameter := parameters.get(name)) is None:
                yield name, weight
                continue
            if weight.numel() != parameter.numel():
                raise RecipeError(
                    f"the checkpoint's {name} has the shape {list(weight.shape)}, and the recipe names "
                    f"{self.out_features} columns of {self.in_features} inputs; name as many scoring tokens as the "
                    'head has rows, for example --prm \'{"base": ..., "scoring_tokens": ...}\''
                )
            parameter.data.copy_(weight.view_as(parameter))
            self._found = self._found or parameter is self.weight

    def check(self) -> None:
        """Raise RecipeError if weights were loaded, and none of this layer were among them."""
        if self._asked and not self._found:
            raise RecipeError(
                f"the checkpoint has no weight {' or '.join(f'{name}.weight' for name in self.names)}, from which the "
                "recipe reads its scores; serve the checkpoint that it was written for, or give the name of the linear "
                'head in this one as "head_names"'
            )


def add_linear_layer(model: torch.nn.Module, hidden_size: int, columns: int, names: tuple[str, ...]) -> None:
    """Give `model` the layer that LinearHead reads."""
    model.prm_head = LinearLayer(hidden_size, columns, names)
