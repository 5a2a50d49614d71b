"""Where a tokenizer provably cuts a text: what stands on one side of a cut cannot change the tokens of the other.

Invariant: `Cuts` claims a cut only where it follows from how the tokenizer is built (the tokenizers library's own
parts, looked up one by one). Of a tokenizer that is built otherwise nothing is claimed, and its texts are tokenized
again up to the place in question.

Three facts are used:

added tokens   The library takes them out of a text first, and treats what stands before, between and after them
               separately. Not where one of them takes white space beside it along, or must be a word of its own.
words          A byte-level tokenizer splits a text by a regular expression and merges only inside the pieces. In no
               piece of the expressions in _WORDS does a space follow anything but white space, or a newline a letter
               or digit. Nor, but for GPT-2's, a letter or digit a newline; and there `\\s*[\\r\\n]+` takes a newline
               before the look-ahead `\\s+(?!\\S)` could. None of them looks behind.
merges         BPE never takes a merge back. So where two tokens meet in a piece, no merge ever went across, and those
               on the left were merged as if the text ended there. Not with `ignore_merges`: it looks up whole pieces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|%s"
_CASED_PUNCTUATION = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The regular expressions, as the tokenizer.json of the models of each family spells them.
_WORDS = {
    # cl100k, Llama 3 (\p{N}{1,3}), Qwen 2 and later (\p{N})
    *(
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{_PUNCTUATION}"
        for digits in (r"\p{N}{1,3}", r"\p{N}")
    ),
    # o200k, Llama 4; Mistral's tekken
    _CASED % (f"{_CONTRACTIONS}?", f"{_CONTRACTIONS}?", r"\p{N}{1,3}") + _CASED_PUNCTUATION,
    _CASED % ("", "", r"\p{N}") + _CASED_PUNCTUATION,
}
_ALPHANUMERIC = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True)
class Cuts:
    """What is known of one tokenizer. Without any of it, nothing is claimed.

    added: texts of its added tokens, by id.
    between_words: it cuts before a space that follows a word or punctuation, and before a newline that follows a letter
        or digit.
    after_newline: it cuts between a newline and a letter or digit.
    merges_only: a whole text is one piece of BPE.
    """

    added: Mapping[int, str] = field(default_factory=dict)
    between_words: bool = False
    after_newline: bool = False
    merges_only: bool = False

    def at(self, text: str, end: int) -> bool:
        """Whether text[:end] and text[end:], each on its own, have the tokens of `text`, whatever follows text[end]."""
        if not self.between_words or not 0 < end < len(text):
            return False
        before, after = text[end - 1], text[end]
        if after == " ":
            return before.isalnum() or "!" <= before <= "~"  # all of ASCII that is neither white space nor control
        if after == "\n":
            return before in _ALPHANUMERIC
        return self.after_newline and before == "\n" and after in _ALPHANUMERIC

    def last(self, text: str, end: int) -> int:
        """The last cut at `end` or before it; 0 if there is none."""
        if not self.between_words:
            return 0
        place = min(end, len(text) - 1)
        while place > 0:  # from one space or newline to the one before: cuts are nowhere else
            space = text.rfind(" ", 0, place + 1)
            newline = text.rfind("\n", max(space, 0), place + 1)
            place = max(space, newline + 1 if newline < place else newline)
            if self.at(text, place):
                return place
            place -= 1
        return 0

    def between(self, text: str, end: int, before: int, after: int) -> bool:
        """Whether the tokens up to `before`, whose last character is text[end - 1], are those of text[:end].

        after: the next token, whose first character is text[end].
        """
        if self.merges_only or self.at(text, end):
            return True
        token = self.added.get(before)
        if token is not None and text.endswith(token, 0, end):
            return True
        token = self.added.get(after)
        return token is not None and text.startswith(token, end)


_NONE = Cuts()


@lru_cache(maxsize=16)  # as many as `bind` keeps
def _cuts_of(tokenizer: Any) -> Cuts:
    backend = tokenizer.backend_tokenizer
    added_tokens = backend.get_added_tokens_decoder()
    if any(token.lstrip or token.rstrip or token.single_word for token in added_tokens.values()):
        return _NONE
    added = {id_: token.content for id_, token in added_tokens.items() if not token.normalized}
    contents = [token.content for token in added_tokens.values()]
    normalizer, pre_tokenizer = _state(backend.normalizer), _state(backend.pre_tokenizer)
    model = backend.model
    if type(model).__name__ != "BPE" or model.dropout is not None:
        return Cuts(added)
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        return Cuts(added)
    words, newlines = _splits_words(normalizer, pre_tokenizer)
    return Cuts(
        added,
        between_words=words and not any(_holds_cut(content) for content in contents),
        after_newline=newlines,
        merges_only=pre_tokenizer is None and not model.ignore_merges and _is_local(normalizer),
    )


def cuts_of(tokenizer: Any) -> Cuts:
    """Of a tokenizer on the tokenizers library (see `encoding.is_fast`)."""
    if getattr(tokenizer, "split_special_tokens", False):  # then added tokens are split like other text
        return _NONE
    return _cuts_of(tokenizer)


def _state(part: Any) -> Any:
    """A normalizer or pre-tokenizer as tokenizer.json writes it."""
    return None if part is None else json.loads(part.__getstate__())


def _splits_words(normalizer: Any, pre_tokenizer: Any) -> tuple[bool, bool]:
    """(between_words, after_newline) of Cuts. NFC composes no ASCII character with the one before it."""
    if normalizer not in (None, {"type": "NFC"}) or pre_tokenizer is None:
        return False, False
    byte_level = pre_tokenizer
    if pre_tokenizer["type"] == "Sequence" and len(pre_tokenizer["pretokenizers"]) == 2:
        split, byte_level = pre_tokenizer["pretokenizers"]
        is_known = split["type"] == "Split" and split["pattern"].get("Regex") in _WORDS
        if not is_known or split["behavior"] != "Isolated" or split["invert"]:
            return False, False
    if byte_level["type"] != "ByteLevel" or byte_level["add_prefix_space"]:
        return False, False
    by_gpt2 = byte_level["use_regex"]  # GPT-2's own expression
    return (by_gpt2, False) if byte_level is pre_tokenizer else (not by_gpt2, not by_gpt2)


def _is_local(normalizer: Any) -> bool:
    """Whether it treats every character by itself, but for a text that it puts in front."""
    if normalizer is None:
        return True
    if normalizer["type"] == "Sequence":
        return all(map(_is_local, normalizer["normalizers"]))
    if normalizer["type"] == "Replace":
        return len(normalizer["pattern"].get("String", "")) == 1
    return bool(normalizer["type"] == "Prepend")


def _holds_cut(content: str) -> bool:
    cuts = Cuts(between_words=True, after_newline=True)
    return cuts.last(content, len(content)) > 0
