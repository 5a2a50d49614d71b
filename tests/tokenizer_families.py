"""One tokenizer of each family at hand, small ones trained on the questions and steps of tests/data.

FAMILIES: functions by name. Each tokenizer has added tokens, whose texts `texts_of` strews into random texts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import vocabularies
from checkpoints import real_tokenizer
from conftest import TINY_PRM
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

_TEXTS = Path(__file__).parent / "data" / "prmbench-36.jsonl"
_SPECIAL = ["<s>", "<|im_end|>", "<extra_0>", "<extra_0>+", "[PAD]"]
_CL100K, _QWEN = (vocabularies._WORDS % digits for digits in (r"\p{N}{1,3}", r"\p{N}"))
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# As mistral_common's tekken_240718.json and OpenAI's o200k_base spell them.
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _corpus() -> list[str]:
    rows = map(json.loads, _TEXTS.read_text(encoding="utf-8").splitlines())
    return [text for row in rows for text in (row["modified_question"], *row["modified_process"])]


def _wrapped(backend: Tokenizer, special: list[str | AddedToken] | None = None) -> PreTrainedTokenizerFast:
    backend.add_special_tokens(special or [AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", clean_up_tokenization_spaces=False)


def byte_level(expression: str | None = None, prefix: bool = False, **more: Any) -> PreTrainedTokenizerFast:
    """expression: that splits words; None: GPT-2's. more: normalizer, post_processor, special, ignore_merges."""
    special = more.pop("special", None)
    backend = Tokenizer(models.BPE(ignore_merges=more.pop("ignore_merges", False)))
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=expression is None)
    backend.pre_tokenizer = by_bytes
    if expression is not None:
        split = pre_tokenizers.Split(Regex(expression), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, by_bytes])
    for name, part in more.items():
        setattr(backend, name, part)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_corpus() + ["a \n\n\n\n b ки + ки\n"] * 50, trainer)
    return _wrapped(backend, special)


def _other(model: Any, trainer: Any, **parts: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer(model)
    for name, part in parts.items():
        setattr(backend, name, part)
    backend.train_from_iterator(_corpus() + ["a ки + ки\n"] * 50, trainer)
    return _wrapped(backend)


def metaspace(scheme: str) -> PreTrainedTokenizerFast:
    """Sentencepiece's BPE as transformers 5 converts it: one piece, or words with ▁ before the first only."""
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["<unk>"], show_progress=False)
    model = models.BPE(unk_token="<unk>", fuse_unk=True)
    return _other(
        model, trainer, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme=scheme, split=scheme != "never")
    )


def whole_text_bpe(**more: Any) -> PreTrainedTokenizerFast:
    """One piece, merges across words, unknown characters fused."""
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["<unk>"], show_progress=False)
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return _other(models.BPE(unk_token="<unk>", fuse_unk=True, **more), trainer, normalizer=normalizer)


def unigram() -> PreTrainedTokenizerFast:
    trainer = trainers.UnigramTrainer(vocab_size=800, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    parts = {"normalizer": normalizers.NFKC(), "pre_tokenizer": pre_tokenizers.Metaspace()}
    return _other(models.Unigram(), trainer, **parts)


def word_piece() -> PreTrainedTokenizerFast:
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=["[UNK]"], show_progress=False)
    parts = {"normalizer": normalizers.BertNormalizer(), "pre_tokenizer": pre_tokenizers.BertPreTokenizer()}
    return _other(models.WordPiece(unk_token="[UNK]"), trainer, **parts)


def _with_end() -> Any:
    return processors.TemplateProcessing(
        single="<s> $A <|im_end|>", special_tokens=[("<s>", 1500), ("<|im_end|>", 1501)]
    )


_GREEDY = [AddedToken("<s>", normalized=False), AddedToken("<|im_end|>", lstrip=True, rstrip=True, normalized=False)]
_SPACED = [AddedToken("<s>", normalized=False), AddedToken("e f", normalized=False), AddedToken("<extra_0>")]
FAMILIES = {
    name: cache(make)
    for name, make in {
        "Mistral v1, sentencepiece": real_tokenizer,
        "Llama 3": vocabularies.llama3,
        "Qwen 2.5": vocabularies.qwen25,
        "tiny-prm": partial(AutoTokenizer.from_pretrained, TINY_PRM),
        "GPT-2": byte_level,
        "GPT-2, trimmed offsets": partial(byte_level, post_processor=processors.ByteLevel(trim_offsets=True)),
        "GPT-2, prefix space": partial(byte_level, prefix=True),
        "cl100k": partial(byte_level, _CL100K),
        "cl100k, whole pieces looked up": partial(byte_level, _CL100K, ignore_merges=True),
        "Qwen with NFC": partial(byte_level, _QWEN, normalizer=normalizers.NFC()),
        "Qwen with NFKC": partial(byte_level, _QWEN, normalizer=normalizers.NFKC()),
        "tekken": partial(byte_level, _TEKKEN),
        "o200k": partial(byte_level, _O200K),
        "an end token": partial(byte_level, _CL100K, post_processor=_with_end()),
        "greedy added tokens": partial(byte_level, _CL100K, special=_GREEDY),
        "added tokens with spaces": partial(byte_level, _CL100K, special=_SPACED),
        "sentencepiece, first word only": partial(metaspace, "first"),
        "sentencepiece, every piece": partial(metaspace, "always"),
        "sentencepiece, one piece": partial(metaspace, "never"),
        "BPE of whole texts": whole_text_bpe,
        "BPE of whole texts, looked up": partial(whole_text_bpe, ignore_merges=True),
        "unigram": unigram,
        "WordPiece": word_piece,
    }.items()
}

_FRAGMENTS = [
    *"abeE059", "the ", " sum", "Step 2: ", "12", " 3456", "don't", "'s", "we'LL", ".", "...", " +", "+",
    "-\n", "//", "\n/", " ", "  ", "   ", "\n", "\n\n", " \n\n\n\n", "\t", "\r\n", "\u00a0", "\u3000", "ки",
    " ки", "киx", "é", "e\u0301", "\u0301", "\u1100\u1161", "한", "日本", "ｆ", "ﬁ", "🦆", "👩‍🔬", "▁",
    "x▁y", "Ġ", "<s", "<extra_", "e f", "ſ", "'ſ",
]  # fmt: skip


def texts_of(tokenizer: Any, seed: int, longest: int = 24) -> Iterator[str]:
    """Random texts without end: what tokenizers treat in special ways, pieces of real text, added tokens."""
    rng = random.Random(seed)
    added = [*tokenizer.get_added_vocab()]
    corpus = _corpus()
    while True:
        parts = []
        for _ in range(rng.randint(1, longest)):
            kind = rng.random()
            if kind < 0.1 and added:
                parts.append(rng.choice(added))
            elif kind < 0.2:
                text, start = rng.choice(corpus), rng.randrange(20)
                parts.append(text[start : start + rng.randint(1, 20)])
            else:
                parts.append(rng.choice(_FRAGMENTS))
        yield "".join(parts)
