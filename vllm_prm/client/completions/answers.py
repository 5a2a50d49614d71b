"""The scoring tokens' log-probabilities from what a server says of a prompt's next token: all of them, or an error."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vllm_prm.errors import EngineError
from vllm_prm.prompts.likeliest import likeliest_row
from vllm_prm.recipes.binding import BoundRecipe
from vllm_prm.recipes.pieces import piece_text

TOKEN_ID = "token_id:"  # before the id that vLLM writes instead of a text (return_tokens_as_token_ids)
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_ROUNDING = 1e-5  # of the logarithm of 1, in float32
_HELP = "Use a server that takes logprob_token_ids (vLLM), or one that gives more (vLLM: --max-logprobs)"


def names_of(recipe: BoundRecipe, by_id: bool, seen: Iterable[str] = ()) -> list[str]:
    """How the server names each scoring token. seen: names that it gave, in which some servers leave the space out that
    a token begins with.

    Raises EngineError if another token of the vocabulary has the same name, so that nobody can tell which is meant.
    """
    if by_id:
        return [f"{TOKEN_ID}{token_id}" for token_id in recipe.scoring_ids]
    keep_spaces = any(name[:1] == " " for name in seen)
    named = Counter(_name(piece, keep_spaces) for piece in recipe.tokenizer.get_vocab())
    names = [_name(str(piece), keep_spaces) for piece in recipe.tokenizer.convert_ids_to_tokens([*recipe.scoring_ids])]
    if shared := [name for name in names if named[name] > 1]:
        raise EngineError(
            f"the server names tokens by their text, and {shared} of recipe {recipe.recipe.name!r} may be several "
            "tokens of the vocabulary, which cannot be told apart; use a server that takes logprob_token_ids (vLLM)"
        )
    return names


def _name(piece: str, keep_space: bool) -> str:
    if _BYTE.fullmatch(piece):  # sentencepiece's, of a byte that no other token stands for
        return bytes([int(piece[3:5], 16)]).decode(errors="replace")
    text = piece_text(piece)
    return text if keep_space else text.removeprefix(" ")


def scoring_row(
    logprobs: Mapping[str, float | None], names: Sequence[str], recipe: BoundRecipe, asked_by_id: bool
) -> np.ndarray:
    """float32 [scoring tokens], log-probabilities; those that are missing and cannot matter stand at their bound.

    asked_by_id: the server was asked for just these tokens. Raises EngineError where a missing one could matter.
    """
    values = {name: value for name, value in logprobs.items() if value is not None}
    over_all = recipe.recipe.reads_vocabulary
    if over_all and (found := max((values[name] for name in names if name in values), default=0.0)) > _ROUNDING:
        raise EngineError(
            f"the server gave {found:.3f} as the logarithm of a probability, so these are logits, of which nobody can "
            "tell a share of the whole vocabulary; start it with --logprobs-mode raw_logprobs"
        )
    missing = [name for name in names if name not in values]
    if not missing:
        return np.array([values[name] for name in names], dtype=np.float32)
    if asked_by_id or not values:
        raise EngineError(
            f"the server gave no log-probability for the scoring tokens {missing}, only for {sorted(values)[:20]}"
        )
    return likeliest_row(values, names, recipe.recipe, _HELP)
