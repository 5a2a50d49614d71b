"""The tiny PRM's tokenizer: byte-pair pieces learned from the arithmetic, Llama style.

A blank is part of the piece that follows it (`▁`), so that the step tag ` ки` is the piece `▁ки`
and the scoring tokens are the pieces `▁+` and `▁-`, as in the Llama and Mistral tokenizers that
Math-Shepherd PRMs are built on. Every number of the arithmetic is one piece; text outside the
arithmetic falls back to letters and bytes, so that any text has tokens.
"""

from __future__ import annotations

import json
import random

from arithmetic import LARGEST, STEP_TAG, solution
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
TAG, GOOD, BAD, EQUALS = "▁" + STEP_TAG.strip(), "▁+", "▁-", "▁="
NUMBERS = [f"▁{n}" for n in range(LARGEST + 1)]


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """Learn the pieces from sample solutions and lay the ids out as Llama does.

    Special tokens come first, then the 256 bytes, then the pieces.
    """
    rng = random.Random(1)
    samples = [solution(rng, mistakes=i % 2).text for i in range(20_000)]
    normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")],
    )
    splits: list[tuple[str | Regex, str]] = [
        ("\n", "isolated"),
        (Regex("▁+[^▁]*"), "isolated"),  # one word with its blank
        (Regex("[.,:;!?]"), "isolated"),
    ]
    pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(*split) for split in splits])

    learned = Tokenizer(models.BPE())
    learned.normalizer, learned.pre_tokenizer = normalizer, pre_tokenizer
    trainer = BpeTrainer(vocab_size=1000, min_frequency=2, show_progress=False)
    learned.train_from_iterator(samples, trainer)
    model = json.loads(learned.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)

    ordered = [*SPECIAL, *(f"<0x{b:02X}>" for b in range(256)), *pieces]
    ids = {piece: i for i, piece in enumerate(ordered)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A",
        special_tokens=[("<s>", ids["<s>"])],
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    missing = {TAG, GOOD, BAD, EQUALS, *NUMBERS} - ids.keys()
    if missing:
        raise ValueError(f"not one piece: {sorted(missing)}")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
