"""Where a text's tokens end: by the lengths of byte-level tokens, against the tokenizers library's own offsets."""

from __future__ import annotations

from itertools import islice
from unicodedata import is_normalized

import pytest
from tokenizer_families import FAMILIES, texts_of

from vllm_prm.prompts.cuts import cuts_of
from vllm_prm.prompts.encoding import Encoded, encode_all
from vllm_prm.prompts.places import BytePlaces, OffsetPlaces

BYTE_LEVEL = [family for family, make in FAMILIES.items() if cuts_of(make()).between_words]
TEXTS = 60


class Plain:
    lead, bos = "", None

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer


def encoded(family, texts, is_whole):
    return encode_all(Plain(FAMILIES[family]()), [(text, ()) for text in texts], is_whole)


def test_there_are_byte_level_families():
    assert len(BYTE_LEVEL) > 3


@pytest.mark.parametrize("family", BYTE_LEVEL)
@pytest.mark.parametrize("is_whole", [True, False])
def test_lengths_give_what_offsets_give(family, is_whole):
    tokenizer = FAMILIES[family]()
    texts = [text for text in islice(texts_of(tokenizer, 5), TEXTS) if text and is_normalized("NFC", text)]
    assert not all(map(str.isascii, texts))
    by_offsets = tokenizer(texts, add_special_tokens=is_whole).encodings
    for text, result, encoding in zip(texts, encoded(family, texts, is_whole), by_offsets, strict=True):
        assert isinstance(result.places, BytePlaces)
        ends = range(-1, len(text))
        found = result.places.counts_before(ends)
        assert found[0] is None
        for end, count, expected in zip(ends, found, OffsetPlaces(encoding).counts_before(ends), strict=True):
            if end and (expected is not None or "trimmed" not in family):  # trimmed offsets leave spaces to no token
                assert count == expected, (text, end)


def test_a_text_that_nfc_changes_is_placed_by_offsets():
    family = next(family for family in BYTE_LEVEL if FAMILIES[family]().backend_tokenizer.normalizer is not None)
    (result,) = encoded(family, ["e\u0301 and more of it"], False)
    assert isinstance(result.places, OffsetPlaces)


def test_a_tokenizer_that_cuts_texts_short_is_asked_as_transformers_does():
    """Somebody's call with truncation leaves the backend with it, and so would a call that does not look."""
    tokenizer = FAMILIES[BYTE_LEVEL[0]]()
    text = "one two three four five"
    expected = tokenizer.encode(text, add_special_tokens=False)
    tokenizer.backend_tokenizer.enable_truncation(2)
    (result,) = encode_all(Plain(tokenizer), [(text, ())], False)
    assert isinstance(result, Encoded)
    assert result.token_ids == expected
