"""Tokens of a text's beginning that are read off the whole text's, against tokenizing the beginning."""

from __future__ import annotations

import os
from itertools import islice
from types import SimpleNamespace

import pytest
from checkpoints import real_tokenizer
from tokenizer_families import FAMILIES, texts_of

from vllm_prm.prompts.cuts import cuts_of
from vllm_prm.prompts.encoding import encode_all, is_fast

# Texts per family. The long form, an hour: PRM_CUTS_TEXTS=100000.
TEXTS = int(os.environ.get("PRM_CUTS_TEXTS", "100"))


class Plain:
    """What `encode_all` wants of a bound recipe, without one."""

    lead, bos = "", None

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode_text(self, text):
        return list(self.tokenizer.encode(text))

    def encode_part(self, text):
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def plain(family):
    return Plain(FAMILIES[family]())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_has_the_ids_of_each_text_alone(family):
    recipe = plain(family)
    assert is_fast(type(recipe.tokenizer))
    texts = list(islice(texts_of(recipe.tokenizer, 1), TEXTS))
    assert [e.token_ids for e in encode_all(recipe, [(text, ()) for text in texts], True)] == [
        recipe.encode_text(text) for text in texts
    ]
    assert [e.token_ids for e in encode_all(recipe, [(text, ()) for text in texts], False)] == [
        recipe.encode_part(text) for text in texts
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("is_whole", [True, False])
def test_the_beginning_of_a_text_has_the_tokens_that_it_has_alone(family, is_whole):
    recipe = plain(family)
    encode = recipe.encode_text if is_whole else recipe.encode_part
    texts = list(islice(texts_of(recipe.tokenizer, 2), TEXTS))
    for text, encoded in zip(texts, encode_all(recipe, [(text, ()) for text in texts], is_whole), strict=True):
        ends = range(len(text) + 1)
        for end, count in zip(ends, encoded.counts_before(recipe, ends), strict=True):
            alone = encode(text[:end])
            assert encoded.beginning(recipe, end) == alone, (text, end)
            is_same = encoded.token_ids[: len(alone)] == alone
            assert count == (len(alone) if is_same else None), (text, end)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_sides_of_a_cut_are_tokenized_as_if_alone(family):
    recipe = plain(family)
    cuts = cuts_of(recipe.tokenizer)
    number = 0
    for text in islice(texts_of(recipe.tokenizer, 3), TEXTS):
        for end in range(1, len(text)):
            if cuts.at(text, end):
                number += 1
                left, right = recipe.encode_part(text[:end]), recipe.encode_part(text[end:])
                assert left + right == recipe.encode_part(text), (text, end)
    assert (number > 0) == (family in WORDS)


# Families whose words are cut, and those of one piece. Of the others nothing but added tokens is known.
WORDS = {"Llama 3", "Qwen 2.5", "GPT-2", "GPT-2, trimmed offsets", "cl100k", "cl100k, whole pieces looked up"}
WORDS |= {"Qwen with NFC", "tekken", "o200k", "an end token"}
MERGES = {"Mistral v1, sentencepiece", "BPE of whole texts"}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_known_of_a_family(family):
    cuts = cuts_of(FAMILIES[family]())
    assert cuts.between_words == (family in WORDS)
    assert cuts.merges_only == (family in MERGES)
    assert bool(cuts.added) == (family != "greedy added tokens")


def test_a_tokenizer_that_splits_special_tokens_has_no_cuts():
    tokenizer = real_tokenizer()
    assert cuts_of(tokenizer).added
    tokenizer.split_special_tokens = True
    assert cuts_of(tokenizer) == cuts_of(SimpleNamespace(split_special_tokens=True))


def test_a_class_that_overrides_one_way_is_asked_text_by_text():
    kind = type(real_tokenizer())
    assert is_fast(kind)
    assert is_fast(type("WithALength", (kind,), {"__len__": lambda self: 1}))  # as vLLM derives its own
    for name in ("encode", "__call__", "_encode_plus"):
        assert not is_fast(type("Overridden", (kind,), {name: lambda self, *_, **__: []}))
