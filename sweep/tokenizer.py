"""A tokenizer of made-up words for the small checkpoints; vLLM's offline pooling API does not start without one."""

from __future__ import annotations

from sweep.sizes import VOCABULARY


def save_tokenizer(folder: str) -> None:
    """Write a tokenizer of VOCABULARY words into `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{i}": i for i in range(3, VOCABULARY)}}
    words["<image>"] = words.pop("w990")  # the image_token_id of most entries; some models look it up by name
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
