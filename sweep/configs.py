"""A small config.json for any architecture.

Where transformers or vLLM has the config class, that class is asked, with SMALL sizes written into whatever fields
it has. Where neither has one (vLLM then expects the checkpoint's own code), the fields are listed in text.py,
multimodal.py or audio.py and a plain class carries them.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

VOCABULARY = 1000  # not a multiple of 64: vLLM pads the head, and the padding must not count

SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "padded_vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "dim"), 128),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "block_ff_dim"), 256),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size_mlp"), 128),
    **dict.fromkeys(("shared_expert_intermediate_size", "prefix_dense_intermediate_size"), 128),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(("head_dim", "kv_channels"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 512),
    # The sizes of DeepSeek, which are the only ones that vLLM's MLA kernels take.
    **{"q_lora_rank": 64, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
    **dict.fromkeys(("depth", "num_heads", "encoder_layers", "decoder_layers"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **{"embed_dim": 128, "num_encoder_layers": 2, "num_decoder_layers": 2},
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 2),
    "first_k_dense_replace": 1,
    "logit_scale": 1.5,
}

BOOKKEEPING = ("_name_or_path", "output_attentions", "transformers_version")  # not every class takes these back

# What most decoders without a config class of their own read.
DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False,
    "attention_bias": False,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
}
MLA_SIZES: dict[str, Any] = {name: SMALL[name] for name in SMALL if name.endswith(("lora_rank", "head_dim"))}
MLA_SIZES = {name: size for name, size in MLA_SIZES.items() if name != "head_dim"}
# vLLM picks a bfloat16 kernel for MLA on CPUs with AMX; its other one computes in float32.
MLA_IN_FLOAT32 = {"attention_config": {"backend": "CPU_MLA"}}


@dataclass(frozen=True)
class Entry:
    """How to make one architecture small.

    model_type: whose config class; "" is the one transformers lists for the architecture.
    fields: beyond (or instead of) SMALL. options: for the engine. dtype: bfloat16 where a kernel takes nothing else.
    raw: the fields are the whole config.json, for a class that does not read back what it writes.
    """

    model_type: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    raw: bool = False


def entry(architecture: str) -> Entry:
    from sweep.audio import AUDIO
    from sweep.multimodal import MULTIMODAL
    from sweep.text import TEXT

    return {**TEXT, **MULTIMODAL, **AUDIO}.get(architecture, Entry())


def write(architecture: str, folder: str) -> None:
    """config.json and a tokenizer for `architecture`. Raises LookupError if its config class is not known."""
    config = small_config(architecture)
    (Path(folder) / "config.json").write_text(json.dumps(config))
    save_tokenizer(folder)


def small_config(architecture: str) -> dict[str, Any]:
    wanted = entry(architecture)
    model_type = wanted.model_type or _listed_model_type(architecture)
    if not model_type:
        raise LookupError(f"no config class is known for {architecture}; list its fields in sweep/")
    cls = None if wanted.raw else config_class(model_type)
    fields = wanted.fields if wanted.raw else {name: _expanded(value) for name, value in wanted.fields.items()}
    config = fields if cls is None else _filled(cls, fields)
    return {**config, "architectures": [architecture], "model_type": model_type, "dtype": wanted.dtype}


def config_class(model_type: str) -> Any:
    """The class of transformers or vLLM; None (and a plain class is registered) if neither has one."""
    from transformers import CONFIG_MAPPING, AutoConfig
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    if model_type in _CONFIG_REGISTRY:
        return _CONFIG_REGISTRY[model_type]
    if model_type in CONFIG_MAPPING:
        found = CONFIG_MAPPING[model_type]
        return None if issubclass(found, _plain_class()) else found
    AutoConfig.register(model_type, type("Config", (_plain_class(),), {"model_type": model_type}))
    return None


@lru_cache
def _plain_class() -> Any:
    """A config class that takes any field; the configs inside it, told by their model_type, become objects."""
    from transformers import AutoConfig, PreTrainedConfig

    class Fields(dict):
        def __getattr__(self, name: str) -> Any:
            if name not in self:
                raise AttributeError(name)
            return self[name]

    def made(value: Any) -> Any:
        if isinstance(value, list):
            return [made(item) for item in value]
        if isinstance(value, dict) and "model_type" in value:
            config_class(value["model_type"])
            return AutoConfig.for_model(**value)
        if isinstance(value, dict) and "no_op" in str(value):
            return Fields({name: made(item) for name, item in value.items()})
        return value

    class Plain(PreTrainedConfig):
        def __post_init__(self, **fields: Any) -> None:
            super().__post_init__(**{name: made(value) for name, value in fields.items()})

        def get_text_config(self, *args: Any, **kwargs: Any) -> Any:
            for name in ("text_config", "llm_config", "language_config"):
                if isinstance(getattr(self, name, None), PreTrainedConfig):
                    return getattr(self, name)
            return self

    return Plain


def _listed_model_type(architecture: str) -> str:
    from transformers.models.auto import modeling_auto

    for name in sorted(dir(modeling_auto)):
        if name.endswith("_MAPPING_NAMES"):
            for model_type, classes in getattr(modeling_auto, name).items():
                if architecture in ((classes,) if isinstance(classes, str) else classes):
                    return model_type
    return ""


def _expanded(value: Any) -> Any:
    """A part given as {"model_type": ..., changes} becomes the small config of that type, with the changes."""
    if not isinstance(value, dict) or "model_type" not in value:
        return value
    model_type = value["model_type"]
    cls = config_class(model_type)
    changes = {name: item for name, item in value.items() if name != "model_type"}
    return {**(changes if cls is None else _filled(cls, changes)), "model_type": model_type}


def _filled(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The config of `cls` as a dict, with SMALL sizes in its fields and in those of the configs inside it."""
    from transformers import PreTrainedConfig

    parts = {}
    for name, part in vars(_default(cls)).items():
        if isinstance(part, PreTrainedConfig) and name in {*cls.sub_configs, "text_config", "llm_config"}:
            changes = fields.get(name)
            changes = changes if isinstance(changes, dict) and "model_type" not in changes else {}
            made = {**_filled(type(part), changes), "model_type": part.model_type}
            parts[name] = {key: value for key, value in made.items() if key not in BOOKKEEPING}
    for name, value in fields.items():  # a dict adds to a part, anything else replaces it
        parts[name] = {**parts[name], **value} if isinstance(value, dict) and name in parts else value
    known = set(getattr(cls, "__dataclass_fields__", ())) | set(inspect.signature(cls.__init__).parameters)
    known |= set(getattr(cls, "attribute_map", {}))
    small = {name: size for name, size in SMALL.items() if name in known}
    if "kv_lora_rank" in known:  # there head_dim is an alias of qk_rope_head_dim
        small.pop("head_dim", None)
    return cls(**{**small, **parts}).to_dict()


@lru_cache
def _default(cls: Any) -> Any:
    return cls()


def save_tokenizer(folder: str) -> None:
    """A tokenizer of VOCABULARY made-up words. vLLM's offline pooling API does not start without one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{i}": i for i in range(3, VOCABULARY)}}
    words["<image>"] = words.pop("w990")  # the image_token_id of most entries; some models look it up by name
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)


def registered() -> list[str]:
    """Every text-generation architecture of the installed vLLM, then every multimodal one."""
    from vllm.model_executor.models import registry

    return [*registry._TEXT_GENERATION_MODELS, *registry._MULTIMODAL_MODELS]


def options(architecture: str) -> dict[str, Any]:
    """Engine options: multimodal models run without their towers, for prompts of text."""
    from vllm.model_executor.models import registry

    text_only = {"language_model_only": True} if architecture in registry._MULTIMODAL_MODELS else {}
    return {**text_only, **entry(architecture).options}
