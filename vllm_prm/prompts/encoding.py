"""Texts to token ids, many at once, and which tokens are those of a text's beginning.

Invariant: the ids are those that the tokenizer's `encode` makes of each text by itself. A tokenizer on the tokenizers
library is asked by its own batch call, which uses every core (TOKENIZERS_PARALLELISM=false in the environment: one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm_prm.prompts.cuts import Cuts, cuts_of
from vllm_prm.recipes.binding import BoundRecipe

_NO_CUTS = Cuts()


@dataclass(frozen=True)
class Encoded:
    """A text and its tokens.

    is_whole: tokenized with the special tokens that the tokenizer adds (BoundRecipe.encode_text; encode_part if not).
    places: the tokenizers library's Encoding, which knows the characters of each token; None of other tokenizers.
    lead: characters that the Encoding has before the text. bos: ids in `token_ids` before its first one.
    cuts: of the tokenizer.
    """

    text: str
    token_ids: list[int]
    is_whole: bool
    places: Any = None
    lead: int = 0
    bos: int = 0
    cuts: Cuts = _NO_CUTS

    def beginning(self, recipe: BoundRecipe, end: int) -> list[int]:
        """The tokens of text[:end]: those of the text that stand before `end` where a cut proves that, or made anew.

        From the last cut before `end`, if there is one that proves that the tokens before it stay.
        """
        if end == len(self.text):
            return self.token_ids
        count = self._count_before(end)
        if count is not None and self._proves(end, count):
            return self.token_ids[:count]
        if (cut := self.cuts.last(self.text, end)) and (count := self._count_before(cut)) is not None:
            return [*self.token_ids[:count], *recipe.encode_part(self.text[cut:end])]
        return recipe.encode_text(self.text[:end]) if self.is_whole else recipe.encode_part(self.text[:end])

    def _count_before(self, end: int) -> int | None:
        """How many tokens text[:end] has, if one ends just there and the next one begins there; None if not known."""
        if self.places is None:
            return None
        place = self.lead + end
        following = self.places.char_to_token(place)
        if not following or self.places.token_to_chars(following)[0] != place:
            return None
        before = self.places.token_to_chars(following - 1)
        if before is None or before[1] != place:
            return None
        if self.places.token_to_sequence(len(self.places) - 1) is None:
            return None  # the tokenizer adds special tokens at the end, so the beginning of a text ends otherwise
        return self.bos + int(following)

    def _proves(self, end: int, count: int) -> bool:
        """Whether the `count` tokens that stand before `end` are those of text[:end]."""
        return (
            self.cuts.merges_only
            or self.cuts.at(self.text, end)
            or self.cuts.ends_in_added(self.text, end, self.token_ids[count - 1])
            or self.cuts.begins_added(self.text, end, self.token_ids[count])
        )


def encode_all(recipe: BoundRecipe, texts: Sequence[str], is_whole: bool) -> list[Encoded]:
    """is_whole: as whole texts (BoundRecipe.encode_text) or as parts of a prompt (encode_part)."""
    tokenizer = recipe.tokenizer
    if not texts or not is_fast(type(tokenizer)):
        encode = recipe.encode_text if is_whole else recipe.encode_part
        return [Encoded(text, encode(text), is_whole) for text in texts]
    lead, bos = (recipe.lead, recipe.bos) if is_whole else ("", ())
    batch = tokenizer(
        [lead + text for text in texts] if lead else list(texts),
        add_special_tokens=is_whole and bos is None,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    cuts, front = cuts_of(tokenizer), list(bos or ())
    return [
        Encoded(text, front + token_ids if front else token_ids, is_whole, places, len(lead), len(front), cuts)
        for text, token_ids, places in zip(texts, batch["input_ids"], batch.encodings, strict=True)
    ]


def is_fast(kind: type) -> bool:
    """Whether tokenizers of this class are transformers' own on the tokenizers library.

    `encode` and the batch call are then two ways into the same function. A class of somebody else's may override one of
    them, so all that they go through must be transformers'.
    """
    if not hasattr(kind, "backend_tokenizer"):
        return False
    ways = [getattr(kind, name, None) for name in ("encode", "__call__", "_encode_plus", "_batch_encode_plus")]
    return all(way.__module__.startswith("transformers.tokenization_utils") for way in ways if way is not None)
