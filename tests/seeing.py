"""Small random models that see, with their oracles on transformers, and pictures for them.

Qwen2.5-VL's processor wants torchvision for videos, which the CPU's environment has not: here it takes images alone.
"""

from __future__ import annotations

import base64
import io
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vocabularies
from PIL import Image
from transformers import (
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)

from sweep.absent import AbsentModule, stand_in

PATCH, MERGED = 14, 2  # pixels of a patch's side; patches that become one token, along each side: Qwen2.5-VL's own
# Under their real ids, as Qwen2.5-VL's config.json gives them.
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = 151652, 151653, 151655, 151656
IMAGE_PARTS = {
    "<|vision_start|>": VISION_START,
    "<|vision_end|>": VISION_END,
    "<|image_pad|>": IMAGE_PAD,
    "<|video_pad|>": VIDEO_PAD,
}
# What Qwen2.5-VL's template does with the parts of a turn.
TURN = (
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
)
PLUS, MINUS = 10, 12  # ids of "+" and "-" in Qwen 2.5's vocabulary
# As RLHFlow's and VisualPRM's: one turn a step, answered by "+" or "-", read before the answer.
TURNS = {
    "name": "seeing-turns",
    "step_tag": {"piece": ["<|im_start|>", "a", "s", "s", "i", "s", "t", "a", "n", "t", "Ċ", "+"]},
    "offset": -1,
    "scoring_tokens": {"good": {"piece": "+", "weight": 1.0}, "bad": {"piece": "-", "weight": 0.0}},
    "prompt": {"kind": "turns", "question": "### Question:\n{question}\n\n### Steps:\n", "tag": "+"},
    "aggregation": "mean",
}
STEPS = ["There are 3 red squares.", "Two of them overlap, so 3 - 2 = 1.", "The answer is 1."]
SIZES = ((60, 40), (28, 90), (120, 112), (57, 57))  # of pictures: width and height, in no step of PATCH * MERGED


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Qwen 2.5's, with the tokens around and in the place of an image."""
    return vocabularies.qwen25_with(IMAGE_PARTS, vocabularies.QWEN_CHAT.replace("{{ message.content }}", TURN))


class ImagesOnly(Qwen2_5_VLProcessor):
    """Without its part for videos."""

    attributes = ("image_processor", "tokenizer")

    def __init__(self, image_processor: Any, tokenizer: Any, **_: Any) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = IMAGE_PAD, VIDEO_PAD
        ProcessorMixin.__init__(self, image_processor, tokenizer)


@cache
def processor() -> ImagesOnly:
    pixels = (PATCH * MERGED) ** 2
    images = Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=MERGED, min_pixels=pixels, max_pixels=64 * pixels)
    return ImagesOnly(images, tokenizer())


def save_qwen(folder: Path) -> str:
    """A random Qwen2.5-VL: two layers that see, two that read."""
    torch.manual_seed(0)
    tower = {"hidden_size": 64, "intermediate_size": 128, "depth": 2, "num_heads": 2, "out_hidden_size": 128}
    text = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "vocab_size": 151680, "max_position_embeddings": 4096, "initializer_range": 0.1}
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}  # 16 of 32 / 2
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope, "tie_word_embeddings": True},
        vision_config={**tower, "window_size": 56, "fullatt_block_indexes": [1]},
        tie_word_embeddings=True,
        **{"vision_start_token_id": VISION_START, "vision_end_token_id": VISION_END},
        **{"image_token_id": IMAGE_PAD, "video_token_id": VIDEO_PAD},
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():  # its own initial values are so small that no image would be seen in a score
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "visual" in name:
                weight.normal_(0, 2 / weight[0].numel() ** 0.5)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    processor().image_processor.save_pretrained(folder)
    return str(folder)


def let_vllm_see(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let vLLM run this Qwen2.5-VL in this process, with these options of the engine.

    vLLM's file imports torchvision, which no image of ours needs. Since 0.32 it asks the processor for raw pixels and
    normalizes them by itself; the stand-in for the processor gives normal ones.
    """
    with pytest.MonkeyPatch.context() as while_imported:
        while_imported.setattr(sys, "meta_path", list(sys.meta_path))
        stand_in()
        from vllm.engine.arg_utils import EngineArgs
        from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLProcessingInfo
    for name in [name for name in sys.modules if isinstance(sys.modules[name], AbsentModule)]:
        del sys.modules[name]  # or transformers would think that the libraries are there
    look_at_models_here(patch)
    patch.setattr(Qwen2_5_VLProcessingInfo, "get_hf_processor", lambda self, **_: processor())
    patch.setattr(Qwen2_5_VLProcessingInfo, "get_supported_mm_limits", lambda self: {"image": None})
    return {name: False for name in ("mm_device_do_normalize",) if hasattr(EngineArgs, name)}


def look_at_models_here(patch: pytest.MonkeyPatch) -> None:
    """vLLM looks at a model's class in another process, where no stand-in is; now it does so in this one."""
    from vllm.model_executor.models.registry import _LazyRegisteredModel, _ModelInfo

    patch.setattr(
        _LazyRegisteredModel, "inspect_model_cls", lambda self: _ModelInfo.from_model_cls(self.load_model_cls())
    )


class QwenOracle:
    """Logits from transformers in float32, of a prompt as text and its images."""

    def __init__(self, folder: str) -> None:
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, **options).eval()

    @torch.no_grad()
    def logits(self, text: str, images: list[Image.Image]) -> tuple[list[int], torch.Tensor]:
        """(token ids with the images' own, [tokens, vocabulary])"""
        inputs = processor()(text=[text], images=images or None, return_tensors="pt", add_special_tokens=False)
        return inputs["input_ids"][0].tolist(), self.model(**inputs).logits[0]

    def scores(self, question: str | list[dict[str, Any]], steps: list[str]) -> tuple[list[int], np.ndarray]:
        """Token ids, and float64 [steps]: P("+") before each answer, from the text that TURNS' source would make."""
        parts = [words(question)] if isinstance(question, str) else question
        images = [entry["image_pil"] for entry in parts if entry["type"] == "image_pil"]
        shown = "".join(entry.get("text", "<|vision_start|><|image_pad|><|vision_end|>") for entry in parts)
        text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        for number, step in enumerate(steps):
            opening = f"### Question:\n{shown}\n\n### Steps:\n" if number == 0 else ""
            text += f"<|im_start|>user\n{opening}{step.strip()}<|im_end|>\n<|im_start|>assistant\n+<|im_end|>\n"
        ids, logits = self.logits(text, images)
        end = tokenizer().encode("assistant\n+<|im_end|>", add_special_tokens=False)
        places = [i + len(end) - 3 for i in range(len(ids)) if ids[i : i + len(end)] == end]
        assert len(places) == len(steps)
        return ids, logits[places][:, [PLUS, MINUS]].double().softmax(-1)[:, 0].numpy()


def picture(seed: int, size: tuple[int, int] = SIZES[0]) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def part(image: Image.Image | str) -> dict[str, Any]:
    """A content part: of an image as an object of this process, or of its address."""
    if isinstance(image, str):
        return {"type": "image_url", "image_url": {"url": image}}
    return {"type": "image_pil", "image_pil": image}


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
