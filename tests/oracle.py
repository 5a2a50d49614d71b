"""What the scores must be: the recipe's own arithmetic on plain transformers, in float32."""

from __future__ import annotations

import random

import torch
from checkpoints import MINUS, PLUS, TAG
from transformers import AutoModelForCausalLM

# float32; two implementations of the same sums. A GPU's library adds in other orders, and has other exponentials.
TOLERANCE = 1e-4 if torch.cuda.is_available() else 1e-5


class Oracle:
    """Probabilities or logits of chosen tokens at every step tag, from the full logits of transformers."""

    def __init__(self, folder: str) -> None:
        # The default attention ignores Gemma2's attention soft cap; eager does not.
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        self.model.eval()

    def logits(self, ids: list[int], tag: int = TAG, scoring: tuple[int, ...] = (PLUS, MINUS)) -> torch.Tensor:
        """[steps, scoring tokens]"""
        return self.logits_at(ids, [i for i, id_ in enumerate(ids) if id_ == tag], scoring)

    @torch.no_grad()
    def logits_at(self, ids: list[int], positions: list[int], scoring: tuple[int, ...] = (PLUS, MINUS)) -> torch.Tensor:
        """[positions, scoring tokens]"""
        rows = torch.tensor(positions, dtype=torch.long)  # transformers runs its own full head, on these rows only
        return self.model(torch.tensor([ids]), logits_to_keep=rows).logits[0][:, list(scoring)]

    def shares(self, ids: list[int], positions: list[int], scoring: tuple[int, ...]) -> torch.Tensor:
        """[positions, scoring tokens]: of the whole vocabulary."""
        every = tuple(range(self.model.config.vocab_size))
        return self.logits_at(ids, positions, every).softmax(-1)[:, list(scoring)]

    def probabilities(self, ids: list[int], tag: int = TAG, scoring: tuple[int, ...] = (PLUS, MINUS)) -> torch.Tensor:
        return self.logits(ids, tag, scoring).softmax(-1)

    def scores(self, ids: list[int]) -> torch.Tensor:
        """[steps]: math-shepherd's P(+)."""
        return self.probabilities(ids)[:, 0]


def prompt(rng: random.Random, steps: int, tag: int = TAG, longest_step: int = 20) -> list[int]:
    """BOS, a question, and steps of random words, each ended by the tag."""
    ids = [1, *words(rng, 10)]
    for _ in range(steps):
        ids += [*words(rng, rng.randint(1, longest_step)), tag]
    return ids


def words(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(1200, 12000) for _ in range(count)]  # ordinary pieces: no tag, no scoring token


def tokens(ids: list[int]) -> dict[str, list[int]]:
    return {"prompt_token_ids": ids}


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape, f"{tuple(found.shape)} scores, expected {tuple(expected.shape)}"
    return (found - expected).abs().max().item() if expected.numel() else 0.0
