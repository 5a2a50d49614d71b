"""What host.py runs on: a model of one tiny layer, a real tokenizer, and a recipe for every kind of prompt.

The tokenizer is Mistral's tekken (byte-level, 131,072 pieces, from mistral_common), and its sentencepiece model v1 for
planning alone. The model is so small that only the host counts.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import mistral_common

DATA = Path(mistral_common.__file__).parent / "data"
SPECIAL, VOCABULARY = 1000, 131_072  # tekken's special tokens come first
LONGEST = 8192
BOS, END, USER, ANSWER, TAG, MASK = (f"<SPECIAL_{id_}>" for id_ in (1, 2, 3, 4, 20, 21))
_CHAT = (
    f"{{% for message in messages %}}{{{{ '{USER}' if message.role == 'user' else '{ANSWER}' }}}}"
    f"{{{{ message.content }}}}{END}{{% endfor %}}{{% if add_generation_prompt %}}{ANSWER}{{% endif %}}"
)
_NUMBERED = {"question": "{question} ", "step": "Step {k}: {step}"}
# By name: the step tag's pieces, the offset, and the prompt. "common": texts hold the tag too.
KINDS: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "raw": ("ĠÐºÐ¸", 0, {**_NUMBERED, "tag": " ки", "separator": "\n"}),
    "raw, common tag": ("Ġ+", 0, {**_NUMBERED, "tag": " +", "separator": " "}),
    "segments": ("Ċ", 0, {"kind": "segments", "question": "{question}\n", "tag": "\n"}),
    "chat": (TAG, 0, {"kind": "chat", "question": "{question}", "tag": TAG, "separator": ""}),
    "turns": ("+", 0, {"kind": "turns", "question": "{question} ", "tag": "+"}),
    "passes": (MASK, -1, {"kind": "passes", "question": "Is the current step right? {question}", "tag": MASK,
                         "step": "Current step: {step}", "separator": "\n\n",
                         "passes": [" Arithmetic: {tag}, consistency: {tag}", ", correctness: {tag}"]}),
    "dialogue": (MASK, -1, {"kind": "dialogue", "question": "{question}\n", "tag": MASK, "answer": "\n"}),
}  # fmt: skip


def recipe_of(kind: str) -> Any:
    """A recipe whose scoring tokens are those of all others, so that one engine serves every kind."""
    from vllm_prm import load_recipe

    step_tag, offset, prompt = KINDS[kind]
    scoring = {"good": {"piece": "Ġ+", "weight": 1.0}, "bad": {"piece": "Ġ-", "weight": 0.0}}
    recipe = {"name": kind, "step_tag": step_tag, "offset": offset, "scoring_tokens": scoring, "prompt": prompt}
    return load_recipe(recipe)


def build_model(folder: Path) -> None:
    """The model and its tokenizer, in `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(
        vocab_size=VOCABULARY, **sizes, max_position_embeddings=LONGEST, tie_word_embeddings=True, initializer_range=0.5
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tekken().save_pretrained(folder)


@cache
def tekken() -> Any:
    """Mistral's tekken on the tokenizers library."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    document = json.loads((DATA / "tekken_240911.json").read_text(encoding="utf-8"))
    letters = bytes_to_unicode()
    pieces = [base64.b64decode(row["token_bytes"]) for row in document["vocab"][: VOCABULARY - SPECIAL]]
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    spelled = ["".join(letters[byte] for byte in piece) for piece in pieces]
    merges = []
    for piece in pieces:
        pairs = [(ranks.get(piece[:cut]), ranks.get(piece[cut:])) for cut in range(1, len(piece))]
        known = sorted(pair for pair in pairs if None not in pair)
        merges += [(spelled[left], spelled[right]) for left, right in known]
    vocabulary = {f"<SPECIAL_{id_}>": id_ for id_ in range(SPECIAL)}
    vocabulary |= {piece: SPECIAL + rank for rank, piece in enumerate(spelled)}
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(document["config"]["pattern"]), "isolated")
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, by_bytes])
    backend.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in (BOS, END, USER, ANSWER, TAG, MASK)]
    backend.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=END, chat_template=_CHAT, clean_up_tokenization_spaces=False
    )
