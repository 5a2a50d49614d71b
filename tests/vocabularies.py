"""Byte-level tokenizers with the special tokens, the ids and the chat formats of Llama 3 and Qwen 2.5.

Small ones by default: all bytes in the real order (so that "+" is 10 and "-" is 12), and the pieces that recipes name,
under their real ids. With PRM_VOCABULARIES naming a folder that holds the real `llama3.tiktoken` and
`qwen2.5.tiktoken` (from the PyPI packages llama-models and dashscope), the real ones.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter, bytes_to_unicode

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA_PIECES = {" ки": 116624, " +": 489, " -": 482, "\n\n": 271, " \n\n": 4815, " \n\n\n\n": 23535, "assistant": 78191}
LLAMA_SPECIAL = {
    "<|begin_of_text|>": 128000,
    "<|reserved_special_token_0|>": 128002,
    "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007,
    "<|eot_id|>": 128009,
    "[PRM]": 128010,  # PQM adds it to DeepSeek's vocabulary, which none of our packages has
}
# Roles end in white space that the template trims, as Llama 3.1's own does; without a system turn it writes one.
LLAMA_CHAT = (
    "{{ bos_token }}"
    "{% if messages[0].role != 'system' %}"
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n<|eot_id|>{% endif %}"
    "{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

QWEN_PIECES = {
    " +": 488,
    " -": 481,
    "\n\n": 271,
    " \n\n": 4710,
    " \n\n\n\n": 22701,
    " \n\n\n\n\n": 76325,
    "boxed": 79075,
    "Yes": 9454,
    "No": 2753,
}
QWEN_SPECIAL = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<extra_0>": 151651,
    "<+>": 151665,
    "<->": 151666,
    "<extra>": 151667,
}
QWEN_CHAT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

GRANITE_PIECES = {"assistant": 17594}
# The first one's real id is 0, which is a byte's here.
GRANITE_SPECIAL = {"<|end_of_text|>": 49151, "<|start_of_role|>": 49152, "<|end_of_role|>": 49153}
# Without a system turn it writes one, which says today's date.
GRANITE_CHAT = (
    "{% if messages[0].role != 'system' %}<|start_of_role|>system<|end_of_role|>Knowledge Cutoff Date: April 2024.\n"
    "Today's Date: June 23, 2025.<|end_of_text|>\n{% endif %}"
    "{% for message in messages %}<|start_of_role|>{{ message.role }}<|end_of_role|>{{ message.content }}"
    "<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)


@cache
def llama3() -> PreTrainedTokenizerFast:
    """With BOS before every text, and in the chat template too (so a careless caller gets two)."""
    backend = _backend("llama3", LLAMA_PIECES, LLAMA_SPECIAL, r"\p{N}{1,3}")
    bos = LLAMA_SPECIAL["<|begin_of_text|>"]
    backend.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    return _wrapped(backend, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", chat_template=LLAMA_CHAT)


@cache
def qwen25() -> PreTrainedTokenizerFast:
    """Qwen 2.5 adds no BOS; Skywork's configuration names one, for prompts that spell it."""
    return qwen25_with({}, QWEN_CHAT)


def qwen25_with(special: dict[str, int], chat: str) -> PreTrainedTokenizerFast:
    """With more special tokens, and another chat template."""
    backend = _backend("qwen2.5", QWEN_PIECES, QWEN_SPECIAL | special, r"\p{N}")
    backend.normalizer = normalizers.NFC()
    return _wrapped(backend, bos_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=chat)


@cache
def granite() -> PreTrainedTokenizerFast:
    """Granite 3.3's roles and their ids, around bytes; no package has the real vocabulary."""
    backend = _backend(None, GRANITE_PIECES, GRANITE_SPECIAL, r"\p{N}")
    end = "<|end_of_text|>"
    return _wrapped(backend, bos_token=end, eos_token=end, chat_template=GRANITE_CHAT)


def _wrapped(backend: Tokenizer, **more: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **more)


def _backend(name: str | None, pieces: dict[str, int], special: dict[str, int], digits: str) -> Tokenizer:
    folder = os.environ.get("PRM_VOCABULARIES")
    vocabulary, merges = _small(pieces) if folder is None or name is None else _real(Path(folder) / f"{name}.tiktoken")
    backend = Tokenizer(BPE(vocabulary | special, merges, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS % digits), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    assert all(backend.token_to_id(token) == id_ for token, id_ in special.items())
    assert all(backend.encode(text, add_special_tokens=False).ids == [id_] for text, id_ in pieces.items())
    return backend


def _real(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    return TikTokenConverter(str(path)).extract_vocab_merges_from_model(str(path))


def _small(pieces: dict[str, int]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Every byte, in the order of the real vocabularies; each piece is merged byte by byte from the left."""
    letters = bytes_to_unicode()
    vocabulary = {letter: index for index, letter in enumerate(letters.values())}
    merges: list[tuple[str, str]] = []
    for text, id_ in pieces.items():
        spelled = "".join(letters[byte] for byte in text.encode())
        for end in range(2, len(spelled) + 1):
            if (pair := (spelled[: end - 1], spelled[end - 1])) not in merges:
                merges.append(pair)
            # Parts of pieces have ids of their own, far from all that recipes name.
            vocabulary.setdefault(spelled[:end], 40_000 + len(merges))
        vocabulary[spelled] = id_
    return vocabulary, merges
