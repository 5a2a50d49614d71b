"""The checkpoint that the benchmarks run on: a random Llama that behaves like a PRM where it matters.

Real PRMs put the scoring tokens first at a step tag. A random model does not, and then vLLM's `prompt_logprobs=20`
could not be compared: it returns the first twenty tokens only. So they are put first everywhere, by a constant; which
of the two comes first still depends on the prompt. Nothing else about the weights matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Two Llamas of about 60M parameters. With Llama 3's vocabulary five sixths of them are the embedding, which costs no
# time: a forward pass of 10M. With Mistral's, three fifths are layers (19 in 20 of a 7B model).
SHAPES = {
    128_256: {"hidden_size": 384, "intermediate_size": 1024, "num_attention_heads": 6, "num_key_value_heads": 2},
    32_000: {"hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12, "num_key_value_heads": 4},
}
LONGEST = 40_960  # positions: room for the 32k-token solution of tail.py


@dataclass(frozen=True)
class Tokens:
    """What a checkpoint is asked: the step tag, the scoring tokens and their pieces (the native route wants names)."""

    tag: int = 12902  # math-shepherd's ids, in its Mistral vocabulary; here only numbers
    scoring: tuple[int, int] = (648, 387)
    pieces: tuple[str, str] = ("good", "bad")


def build_model(folder: Path, vocabulary: int) -> int:
    """A Llama of SHAPES and a word tokenizer in `folder`; returns the number of parameters."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        num_hidden_layers=6,
        **SHAPES[vocabulary],
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config)
    _put_scoring_tokens_first(model, Tokens())
    model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(vocabulary)}
    for id_, piece in zip(Tokens().scoring, Tokens().pieces, strict=True):
        words[piece] = words.pop(f"w{id_}")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def _put_scoring_tokens_first(model: Any, tokens: Tokens) -> None:
    """Hidden dimension 0 becomes a constant that no layer writes to; the scoring tokens' rows are large there."""
    import torch

    with torch.no_grad():
        rows = model.get_input_embeddings().weight  # tied: the rows of the output head too
        rows[:, 0] = 0.3  # small beside the rest of a row (0.05 * sqrt(384) = 1, or 1.4), which is to tell tokens apart
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        # Times the constant, over a hidden state's norm (3 a dimension, or 8), a logit of 16 to 19; others reach 6.
        rows[list(tokens.scoring), 0] = {384: 150.0, 768: 500.0}[model.config.hidden_size]


def tokens_of(model: str, tag: int, scoring: list[int]) -> Tokens:
    """The ids of a real checkpoint, with the pieces that its tokenizer has for them."""
    from transformers import AutoTokenizer

    good, bad = scoring
    pieces = AutoTokenizer.from_pretrained(model).convert_ids_to_tokens([good, bad])
    return Tokens(tag, (good, bad), (pieces[0], pieces[1]))
