"""Texts to token ids, many at once, and which tokens are those of a text's beginning.

Invariant: the ids are those that the tokenizer's `encode` makes of each text by itself. A tokenizer on the tokenizers
library is asked by its own batch call, which uses every core (TOKENIZERS_PARALLELISM=false in the environment: one).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unicodedata import is_normalized

from vllm_prm.errors import RequestError
from vllm_prm.prompts.cuts import Cuts, cuts_of
from vllm_prm.prompts.places import BytePlaces, OffsetPlaces, Places, byte_lengths
from vllm_prm.prompts.prefixes import Prefix, prefixes_of
from vllm_prm.recipes.binding import BoundRecipe

_NO_CUTS = Cuts()
_LOOKED_UP = 3  # tags from the end on: a beam grows by a step or two, or is sent again

# Characters that are always tokenized, whatever the tokenizer's pieces: a tenth of a second. Some tokenizers make one
# token of any number of characters that they do not know.
_ALWAYS_TOKENIZED = 100_000

_KNOWN_MODULES = ("transformers.tokenization_utils", "vllm.tokenizers.hf")

Text = tuple[str, Sequence[int]]  # with the indices just after each of its tags, ascending


@dataclass(frozen=True)
class Encoded:
    """A text and its tokens.

    is_whole: tokenized with the special tokens that the tokenizer adds (BoundRecipe.encode_text; encode_part if not).
    places: where the tokens stand of text[start:], which was tokenized; None of tokenizers that do not tell.
    before: ids in `token_ids` before the first of those.
    cuts: of the tokenizer. counts: tokens of text[:end] for ends before `start`, as far as they are known.
    """

    text: str
    token_ids: list[int]
    is_whole: bool
    places: Places | None = None
    start: int = 0
    before: int = 0
    cuts: Cuts = _NO_CUTS
    counts: Mapping[int, int] = field(default_factory=dict)

    def counts_before(self, recipe: BoundRecipe, ends: Sequence[int]) -> list[int | None]:
        """How many of the tokens are those of text[:end], for each of ascending ends; None if that text has others.

        Known where a cut proves it, or else looked at: text[:end] is tokenized, from the last cut before `end`.
        """
        return [self._count_before(recipe, end, count) for end, count in zip(ends, self._placed(ends), strict=True)]

    def _count_before(self, recipe: BoundRecipe, end: int, placed: int | None) -> int | None:
        if end == len(self.text):
            return len(self.token_ids)
        if (count := self.counts.get(end)) is not None:
            return count
        if placed is not None:
            before, after = self.token_ids[placed - 1 : placed + 1]
            if self.cuts.between(self.text, end, before, after):
                return placed
        beginning = self.beginning(recipe, end)
        return len(beginning) if self.token_ids[: len(beginning)] == beginning else None

    def beginning(self, recipe: BoundRecipe, end: int) -> list[int]:
        """The tokens of text[:end], made anew from the last cut before `end`."""
        if (cut := self.cuts.last(self.text, end)) and (count := self._placed([cut])[0]) is not None:
            return [*self.token_ids[:count], *recipe.encode_part(self.text[cut:end])]
        return recipe.encode_text(self.text[:end]) if self.is_whole else recipe.encode_part(self.text[:end])

    def remember(self, recipe: BoundRecipe, last_tag: int, counts: Mapping[int, int]) -> None:
        """Keep the text's tokens up to its last tag, for texts that go on from there.

        last_tag: index into the text just after it. counts: tokens of text[:end] for each end that was looked up.
        """
        cut = self.cuts.last(self.text, last_tag - 1)
        if cut > self.start and (count := self._placed([cut])[0]) is not None:
            before_cut = {end: number for end, number in counts.items() if end <= cut}
            prefixes = prefixes_of(recipe.tokenizer)
            prefixes.keep(_context(recipe, self.is_whole), self.text[:cut], self.token_ids[:count], before_cut)

    def _placed(self, ends: Sequence[int]) -> list[int | None]:
        """How many tokens stand before text[end], for each end, if one ends just there and the next begins there."""
        if self.places is None:
            return [None] * len(ends)
        start, before = self.start, self.before
        counts = self.places.counts_before([end - start for end in ends] if start else ends)
        if not start:
            return counts
        return [
            before if end == start > 0 else None if count is None else before + count
            for end, count in zip(ends, counts, strict=True)
        ]


def encode_all(recipe: BoundRecipe, texts: Sequence[Text], is_whole: bool) -> list[Encoded]:
    """is_whole: as whole texts (BoundRecipe.encode_text) or as parts of a prompt (encode_part).

    A text that goes on from one that was remembered is tokenized from there on only.
    """
    if not is_fast(type(recipe.tokenizer)):
        encode = recipe.encode_text if is_whole else recipe.encode_part
        return [Encoded(text, encode(text), is_whole) for text, _ in texts]
    cuts = cuts_of(recipe.tokenizer)
    known = {}
    if cuts.between_words:
        looked_up = ((index, _known_prefix(recipe, text, is_whole, cuts)) for index, text in enumerate(texts))
        known = {index: prefix for index, prefix in looked_up if prefix is not None}
    new = iter(_encode_new(recipe, [text for index, (text, _) in enumerate(texts) if index not in known], is_whole))
    grown = iter(_batch(recipe, [texts[index][0][start:] for index, (start, _) in known.items()], False))
    results = []
    for index, (text, _) in enumerate(texts):
        if index in known:
            start, prefix = known[index]
            token_ids, places = next(grown)
            before = len(prefix.token_ids)
            token_ids = [*prefix.token_ids, *token_ids]
            results.append(Encoded(text, token_ids, is_whole, places, start, before, cuts, prefix.counts))
        else:
            token_ids, places, start, before = next(new)
            results.append(Encoded(text, token_ids, is_whole, places, start, before, cuts))
    return results


def too_long(
    num_characters: int, tokenizer: Any, max_tokens: int | None, step_at: Callable[[int], str] | None = None
) -> RequestError | None:
    """The error of a prompt that cannot fit, so that it need not be tokenized to know: 10 MB take seconds, for which
    others would wait. None if it may fit.

    step_at: which step stands at a character of the prompt ("step 3 of 5"), for the message.
    """
    if max_tokens is None or num_characters <= _ALWAYS_TOKENIZED:
        return None
    most = max_tokens * _longest_piece(tokenizer)
    if num_characters <= most:
        return None
    late = "" if step_at is None else f": {step_at(most)} no longer fits, or one before it"
    return RequestError(
        f"the prompt has {num_characters} characters, more than the {max_tokens} tokens that the model takes can "
        f"be{late}; send fewer or shorter steps, or serve with a larger --max-model-len"
    )


@lru_cache(maxsize=16)  # as `bind`
def _longest_piece(tokenizer: Any) -> int:
    """Characters of the vocabulary's longest entry."""
    return max(map(len, tokenizer.get_vocab()))


def _known_prefix(recipe: BoundRecipe, text: Text, is_whole: bool, cuts: Cuts) -> tuple[int, Prefix] | None:
    """The longest beginning of a text that is known, and where it ends: at the last cut before one of its last tags."""
    written, tag_ends = text
    ends = [cuts.last(written, end - 1) for end in reversed(tag_ends[-_LOOKED_UP:])]
    beginnings = [written[:end] for end in ends if end]
    looked_up = prefixes_of(recipe.tokenizer).longest(_context(recipe, is_whole), beginnings)
    return None if looked_up is None else (len(beginnings[looked_up[0]]), looked_up[1])


def _context(recipe: BoundRecipe, is_whole: bool) -> Hashable:
    """What decides about the tokens of a text's beginning, beside the text and the tokenizer."""
    return (recipe.bos, recipe.lead) if is_whole else None


def _encode_new(recipe: BoundRecipe, texts: Sequence[str], is_whole: bool) -> list[tuple[list[int], Places, int, int]]:
    """(token_ids, places, start, before) of Encoded."""
    if not is_whole or recipe.bos is None:
        return [(token_ids, places, 0, 0) for token_ids, places in _batch(recipe, texts, special=is_whole)]
    bos, lead = list(recipe.bos), recipe.lead
    batch = _batch(recipe, [lead + text for text in texts], special=False)
    return [(bos + token_ids, places, -len(lead), len(bos)) for token_ids, places in batch]


def _batch(recipe: BoundRecipe, texts: Sequence[str], special: bool) -> list[tuple[list[int], Places]]:
    """Ids and places of each text. special: with the special tokens that the tokenizer adds."""
    if not texts:
        return []
    tokenizer = recipe.tokenizer
    if cuts_of(tokenizer).between_words and _is_as_loaded(tokenizer.backend_tokenizer) and all(map(_is_plain, texts)):
        lengths, backend = byte_lengths(tokenizer), tokenizer.backend_tokenizer
        encodings = backend.encode_batch_fast(texts, add_special_tokens=special)
        adds = special and backend.num_special_tokens_to_add(False) > 0
        results: list[tuple[list[int], Places]] = []
        for text, encoding in zip(texts, encodings, strict=True):
            token_ids, added = encoding.ids, encoding.special_tokens_mask if adds else None
            results.append((token_ids, BytePlaces(text, token_ids, lengths, added)))
        return results
    batch = tokenizer(
        list(texts),
        add_special_tokens=special,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return list(zip(batch["input_ids"], map(OffsetPlaces, batch.encodings), strict=True))


def _is_as_loaded(backend: Any) -> bool:
    """Whether nobody has it cut texts short, fill them up or split special tokens, which transformers' calls undo."""
    return backend.truncation is None and backend.padding is None and not backend.encode_special_tokens


def _is_plain(text: str) -> bool:
    """Whether no byte-level tokenizer that has cuts changes the text before it splits it (cuts.py: NFC at most)."""
    return text.isascii() or is_normalized("NFC", text)


def is_fast(kind: type) -> bool:
    """Whether tokenizers of this class are transformers' own on the tokenizers library.

    `encode` and the batch call are then two ways into the same function. A class of somebody else's may override one of
    them, so all that they go through must be transformers', or vLLM's, whose pool hands both to a copy of it.
    """
    if not hasattr(kind, "backend_tokenizer"):
        return False
    ways = [getattr(kind, name, None) for name in ("encode", "__call__", "_encode_plus", "_batch_encode_plus")]
    return all(way.__module__.startswith(_KNOWN_MODULES) for way in ways if way is not None)
