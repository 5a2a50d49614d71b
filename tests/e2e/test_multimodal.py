"""A prompt with an image is scored by the model's own head, and so is it from the prefix cache.

vLLM keys the blocks of its cache by what an image shows, and the scores lie in those blocks: an image seen before is
not computed again, and another image behind the same token ids is.
"""

from __future__ import annotations

import random
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from checkpoints import MINUS, PLUS, TAG
from conftest import running, step_config
from oracle import TOLERANCE, difference, prompt
from PIL import Image
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    OPTConfig,
)

BLOCK = 32
IMAGE = 32000  # the first id behind Mistral's vocabulary
SIDE = 56
PLACES = 40  # tokens that one image becomes, which BLIP-2 puts before the prompt


def save_blip2(folder: Path) -> str:
    """A random BLIP-2: a vision tower for 56 x 56 pixels, a Q-Former, and OPT; two layers of each."""
    torch.manual_seed(0)
    layers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = OPTConfig(
        **{"vocab_size": 32064, "hidden_size": 128, "word_embed_proj_dim": 128, "ffn_dim": 256, "init_std": 0.1},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "dropout": 0.0},
    )
    config = Blip2Config(
        vision_config={**layers, "image_size": SIDE, "patch_size": 14},
        qformer_config={**layers, "encoder_hidden_size": 64},
        text_config=text.to_dict(),
        num_query_tokens=PLACES,
        image_token_index=IMAGE,
    )
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():  # its own initial values are so small that no image would be seen in a score
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "language_model" not in name:
                weight.normal_(0, 2 / weight[0].numel() ** 0.5)
    model.save_pretrained(folder)
    tokenizer = checkpoints.real_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    assert tokenizer.convert_tokens_to_ids("<image>") == IMAGE
    pixels = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    Blip2Processor(pixels, tokenizer, num_query_tokens=PLACES).save_pretrained(folder)
    return str(folder)


class Blip2Oracle:
    """Probabilities of the scoring tokens after every step tag, from transformers in float32."""

    def __init__(self, folder: str) -> None:
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder, **options).eval()
        self.pixels = BlipImageProcessor.from_pretrained(folder)

    @torch.no_grad()
    def probabilities(self, ids: list[int], image: Image.Image | None = None) -> torch.Tensor:
        if image is None:
            logits = self.model.language_model(input_ids=torch.tensor([ids])).logits[0]
        else:
            ids = [IMAGE] * PLACES + ids
            pixels = self.pixels(image, return_tensors="pt")["pixel_values"]
            logits = self.model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0]
        return logits[torch.tensor(ids) == TAG][:, [PLUS, MINUS]].softmax(-1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = save_blip2(tmp_path_factory.mktemp("blip2") / "model")
    # vLLM turns both off for its own STEP pooling, and leaves them on where a recipe says what to read.
    options = {"enable_prefix_caching": True, "enable_chunked_prefill": True, "max_num_batched_tokens": 256}
    options |= {"max_model_len": 1024, "block_size": BLOCK}
    with running(folder, pooler_config=step_config(), **options) as llm:
        assert llm.llm_engine.vllm_config.cache_config.enable_prefix_caching
        yield llm, Blip2Oracle(folder)


@pytest.fixture(autouse=True)
def _empty_cache(pair):
    assert pair[0].reset_prefix_cache()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (80, 70, 3), dtype=np.uint8))


def question(seed: int, steps: int) -> list[int]:
    return prompt(random.Random(seed), steps)


def scored(llm, *asked: tuple[list[int], Image.Image | None]):
    """Probabilities [steps, 2] of each prompt, and how many of its tokens came from the cache."""
    prompts = [
        {"prompt_token_ids": ids} | ({"multi_modal_data": {"image": image}} if image else {}) for ids, image in asked
    ]
    outputs = llm.encode(prompts, pooling_task="embed", use_tqdm=False)
    return [output.outputs.data.view(-1, 2) for output in outputs], [output.num_cached_tokens for output in outputs]


def test_images_and_text_in_one_batch(pair):
    llm, oracle = pair
    rng = random.Random(4)
    asked = [(question(i, steps), picture(i)) for i, steps in enumerate((1, 5, 20))]
    asked += [(prompt(rng, steps), None) for steps in (1, 7)]
    found, _ = scored(llm, *asked)
    for (ids, image), values in zip(asked, found, strict=True):
        expected = oracle.probabilities(ids, image)
        assert difference(values, expected) < TOLERANCE


def test_columns_are_those_of_the_whole_head(pair):
    """Not only what transformers says: the same hidden states through the model's own compute_logits."""
    llm, _ = pair
    ids, rows = question(9, 6), []

    def keep(_, args, kwargs):
        rows.append((args[0] if args else kwargs["hidden_states"]).clone())

    (hook,) = llm.apply_model(lambda model: model.pooler.register_forward_pre_hook(keep, with_kwargs=True))
    (found,), _ = scored(llm, (ids, picture(9)))
    hook.remove()
    places, hidden = [IMAGE] * PLACES + ids, torch.cat(rows)
    assert len(hidden) == len(places)
    (whole,) = llm.apply_model(lambda model: model.compute_logits(hidden[torch.tensor(places) == TAG]))
    assert difference(found, whole[:, [PLUS, MINUS]].float().softmax(-1)) < TOLERANCE
    assert llm.apply_model(lambda model: model.pooler.head.whole_because) == [None]


def test_the_same_image_twice(pair):
    llm, oracle = pair
    ids, image = question(1, 12), picture(1)
    expected = oracle.probabilities(ids, image)
    length = PLACES + len(ids)
    for cached in (0, (length - 1) // BLOCK * BLOCK):  # whole blocks, and never the last token
        (found,), (count,) = scored(llm, (ids, image))
        assert count == cached
        assert difference(found, expected) < TOLERANCE


def test_another_image_behind_the_same_ids(pair):
    llm, oracle = pair
    ids = question(2, 12)
    one, two = picture(20), picture(21)
    right = [oracle.probabilities(ids, image) for image in (one, two)]
    assert difference(*right) > 100 * TOLERANCE, "the images do not show in the scores: the test shows nothing"
    (first,), _ = scored(llm, (ids, one))
    (second,), (count,) = scored(llm, (ids, two))
    assert count == 0, "the image comes first, so no block of the prompt is that of the other image"
    assert difference(first, right[0]) < TOLERANCE
    assert difference(second, right[1]) < TOLERANCE
    together, _ = scored(llm, (ids, one), (ids, two), (ids, one))
    for values, expected in zip(together, [right[0], right[1], right[0]], strict=True):
        assert difference(values, expected) < TOLERANCE
