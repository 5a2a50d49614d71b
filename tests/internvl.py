"""A small random InternVL as its checkpoints are, and what it makes of images, in plain torch from its authors' code.

https://huggingface.co/OpenGVLab/VisualPRM-8B: modeling_intern_vit.py, modeling_internvl_chat.py, and dynamic_preprocess
of its card. The language model is Qwen 2's, as in InternVL2.5-4B; VisualPRM's own is no class of transformers'.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torchvision_here
import vocabularies
from PIL import Image
from prompt_oracles import INTERN
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TORCHVISION = torchvision_here.TORCHVISION  # first: what is imported below looks for it

SIDE, PATCH = 56, 14  # pixels of a tile (448 in the checkpoints) and of a patch; 2 by 2 patches become one token
MOST_TILES = 12  # config.json: max_dynamic_patch
PER_TILE = (SIDE // PATCH // 2) ** 2
WIDTH, HEADS, LAYERS, TEXT_WIDTH = 128, 4, 2, 128
VOCABULARY = 151680
# The checkpoints have them under 151665 to 151667, where the tests' vocabulary has other recipes' tokens.
IMAGE_TOKENS = {"<img>": 151672, "</img>": 151673, "<IMG_CONTEXT>": 151674}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
PLUS, MINUS = 10, 12

# configuration_internvl_chat.py of the checkpoints, as far as it matters.
CONFIGURATION = """
from transformers import AutoConfig, PretrainedConfig


class InternVisionConfig(PretrainedConfig):
    model_type = "intern_vit_6b"


class InternVLChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    is_composition = True

    def __init__(self, vision_config=None, llm_config=None, **fields):
        super().__init__(**fields)
        self.vision_config = InternVisionConfig(**(vision_config or {}))
        llm_config = dict(llm_config or {"model_type": "qwen2"})
        self.llm_config = AutoConfig.for_model(**llm_config)
"""


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return vocabularies.qwen25_with(IMAGE_TOKENS, vocabularies.QWEN_CHAT)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [tiles, patches, WIDTH]"""
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 2 * WIDTH), "fc2": nn.Linear(2 * WIDTH, WIDTH)})
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x)) * self.ls1
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x)))) * self.ls2


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.patch_embedding = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position_embedding = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH))


class InternVL(nn.Module):
    """Its parameters have the names of the checkpoints'."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.ModuleDict({"layers": nn.ModuleList(Layer() for _ in range(LAYERS))})
        self.vision_model = nn.ModuleDict({"embeddings": Embeddings(), "encoder": layers})
        wide = 4 * WIDTH
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(wide), nn.Linear(wide, TEXT_WIDTH), nn.GELU(), nn.Linear(TEXT_WIDTH, TEXT_WIDTH)
        )
        text = {"hidden_size": TEXT_WIDTH, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
        text |= {"num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 4096}
        text |= {"initializer_range": 0.1, "tie_word_embeddings": False}
        self.language_model = Qwen2ForCausalLM(Qwen2Config(**text, attn_implementation="eager"))

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """[tiles, 3, SIDE, SIDE] -> [tiles, PER_TILE, TEXT_WIDTH]: extract_feature, with pixel_shuffle of "v2"."""
        embeddings = self.vision_model["embeddings"]
        patches = embeddings.patch_embedding(tiles).flatten(2).transpose(1, 2)
        x = torch.cat([embeddings.class_embedding.expand(len(tiles), 1, -1), patches], 1)
        x = x + embeddings.position_embedding
        for layer in self.vision_model["encoder"]["layers"]:
            x = layer(x)
        x = x[:, 1:].unflatten(1, (SIDE // PATCH, SIDE // PATCH))
        four = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        return self.mlp1(torch.cat(four, -1).flatten(1, 2))

    @torch.no_grad()
    def scores(self, question: str, images: list[Image.Image], steps: list[str]) -> tuple[list[int], np.ndarray]:
        """Token ids, and float64 [steps]: P("+"), by generate_steps_with_soft_score, a forward for each step.

        Its "<image>\\n" stands before the question, once for each image.
        """
        tiles = [tiled(image) for image in images]
        history = f"<|im_start|>system\n{INTERN}<|im_end|>\n"
        features = self.features(torch.cat(tiles)).flatten(0, 1) if tiles else torch.empty(0, TEXT_WIDTH)
        opening = "<image>\n" * len(images) + question
        for each in tiles:
            opening = opening.replace("<image>", f"<img>{'<IMG_CONTEXT>' * len(each) * PER_TILE}</img>", 1)
        found = []
        for number, step in enumerate(steps):
            asked = f"### Question:\n{opening}\n\n### Solution Process:\n{step}" if number == 0 else step
            query = f"{history}<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
            ids = tokenizer()(query)["input_ids"]
            embedded = self.language_model.get_input_embeddings()(torch.tensor([ids]))
            embedded[0, torch.tensor(ids) == IMAGE_TOKENS["<IMG_CONTEXT>"]] = features
            logits = self.language_model(inputs_embeds=embedded).logits[0, -1, [PLUS, MINUS]]
            found.append(logits.double().softmax(-1)[0].item())
            history = f"{query}+<|im_end|>\n"
        return tokenizer()(f"{query}+")["input_ids"], np.array(found)


def tiled(image: Image.Image) -> torch.Tensor:
    """[tiles, 3, SIDE, SIDE]: the grid of tiles whose shape is closest to the image's, and the whole image behind."""
    width, height = image.size
    grids = sorted(
        {(w, h) for w in range(1, MOST_TILES + 1) for h in range(1, MOST_TILES + 1) if w * h <= MOST_TILES},
        key=lambda grid: grid[0] * grid[1],
    )
    best, least = (1, 1), float("inf")
    for grid in grids:
        gap = abs(width / height - grid[0] / grid[1])
        is_large = width * height > 0.5 * SIDE * SIDE * grid[0] * grid[1]
        if gap < least or (gap == least and is_large):
            best, least = grid, gap
    whole = image.resize((SIDE * best[0], SIDE * best[1]))
    boxes = [(x * SIDE, y * SIDE, (x + 1) * SIDE, (y + 1) * SIDE) for y in range(best[1]) for x in range(best[0])]
    tiles = [whole.crop(box) for box in boxes] + ([image.resize((SIDE, SIDE))] if len(boxes) > 1 else [])
    pixels = np.stack([np.asarray(tile, np.float32) for tile in tiles]) / 255
    return torch.from_numpy(((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2))


def save(folder: Path) -> InternVL:
    """The checkpoint in `folder`, and the model that it is of."""
    torch.manual_seed(0)
    model = InternVL().eval()
    folder.mkdir()
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, folder / "model.safetensors")
    vision = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS, "num_channels": 3}
    vision |= {"num_attention_heads": HEADS, "image_size": SIDE, "patch_size": PATCH, "qk_normalization": False}
    vision |= {"layer_norm_eps": 1e-6, "norm_type": "layer_norm", "hidden_act": "gelu", "qkv_bias": True}
    vision |= {"initializer_factor": 1.0, "initializer_range": 0.02, "use_flash_attn": False}
    config = {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "model_type": "internvl_chat",
        "vision_config": vision,
        "llm_config": model.language_model.config.to_dict(),
        **{"downsample_ratio": 0.5, "ps_version": "v2", "select_layer": -1, "force_image_size": SIDE},
        **{"dynamic_image_size": True, "use_thumbnail": True, "min_dynamic_patch": 1, "max_dynamic_patch": MOST_TILES},
        **{"template": "internvl2_5", "torch_dtype": "float32"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_internvl_chat.py").write_text(CONFIGURATION)
    tokenizer().save_pretrained(folder)
    return model
