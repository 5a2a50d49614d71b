"""Parts of the configs of models that see: those that several architectures share, and those that are long."""

from __future__ import annotations

from typing import Any

from sweep.entries import Entry
from sweep.sizes import DECODER, EXPERTS
from sweep.text import NEMOTRON_H, STEP3P5

SIGLIP: dict[str, Any] = {"model_type": "siglip_vision_model"}
IMAGE_TOKENS = {"image_token_id": 990, "image_token_index": 990, "video_token_id": 991, "video_token_index": 991}

# The vision tower of the InternVL family has no config class of its own.
INTERN_VIT: dict[str, Any] = {
    **{"model_type": "intern_vit_6b", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "image_size": 448, "patch_size": 14, "num_channels": 3, "qk_normalization": False},
    **{"layer_norm_eps": 1e-6, "norm_type": "layer_norm", "initializer_factor": 0.1, "hidden_act": "gelu"},
    **{"qkv_bias": True, "use_flash_attn": False},
}


def intern_vl(text: dict[str, Any], **changes: Any) -> Entry:
    """A model of the InternVL family around the language model `text`; `changes` add fields or replace them."""
    fields = {
        **{"llm_config": text, "text_config": text, "vision_config": INTERN_VIT, "downsample_ratio": 0.5},
        **{"select_layer": -1, "ps_version": "v2", "force_image_size": 448, "use_thumbnail": True},
        **{"dynamic_image_size": True, "min_dynamic_patch": 1, "max_dynamic_patch": 2, "template": "plain"},
    }
    return Entry("internvl_chat", {**fields, **changes})


# The language model of DeepSeek-VL2 and its OCR descendants, with plain attention.
DEEPSEEK_VL: dict[str, Any] = {
    "language_config": {
        **{**DECODER, **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "topk_method": "greedy"},
        **{"use_mla": False, "kv_lora_rank": None, "q_lora_rank": None, "moe_layer_freq": 1, "n_group": 1},
        **{"qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "topk_group": 1, "head_dim": 32},
        "architectures": ["DeepseekForCausalLM"],
    },
    "vision_config": {"width": 128, "layers": 2, "heads": 4},
    "projector_config": {"input_dim": 128, "n_embed": 128, "projector_type": "linear"},
    **{"tile_tag": "2D", "global_view_pos": "head"},
}
FLAT_VISION: dict[str, Any] = {
    **{"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"image_size": 56, "patch_size": 14, "num_channels": 3, "in_channels": 3, "layer_norm_eps": 1e-6},
    **{
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "mlp_ratio": 2,
        "tokens_per_second": 2,
        "hidden_act": "gelu",
        "depth": 2,
    },
    **{"num_heads": 4, "window_size": 56, "fullatt_block_indexes": [1], "out_hidden_size": 128, "embed_dim": 128},
}
# The checkpoint's own flat config. transformers' class nests the text fields, but vLLM reads them at the top.
ERNIE_VL: dict[str, Any] = {
    **{**DECODER, "head_dim": 32, "freq_allocation": 4, "use_bias": False, "moe_num_experts": [4, 4], "moe_k": 2},
    **{"moe_intermediate_size": [128, 128], "moe_num_shared_experts": 1, "moe_layer_interval": 1},
    **{"moe_layer_start_index": [1, 1], "moe_layer_end_index": [1, 1], "im_patch_id": 990},
    **{"pixel_hidden_size": 128, "spatial_conv_size": 2, "temporal_conv_size": 2, "use_temporal_conv": True},
    "vision_config": {**FLAT_VISION, "model_type": "ernie_vision"},
}
DOTS = {"rms_norm_eps": 1e-5, "use_bias": False, "post_norm": True}
MIMO_VISION: dict[str, Any] = {
    **{"model_type": "mimo_vision", "vit_window_attn_types": [-1, -1], "visual_token_window_size": 64},
    **{"num_key_value_heads": 4, "qk_channels": 32, "kv_channels": 32, "use_sink": False},
}
# The vision tower of Step's models; transformers gives these fields other names.
PERCEPTION: dict[str, Any] = {
    **{"width": 128, "layers": 2, "heads": 4, "output_dim": 128, "image_size": 56, "patch_size": 14},
    **{"use_abs_posemb": True, "use_cls_token": False, "use_rope2d": True, "use_ln_pre": True, "use_ln_post": False},
    **{"mlp_ratio": 2.0, "ls_init_value": 0.1, "hidden_act": "gelu"},
}
# The checkpoint's own config; transformers' class for its model_type lacks the fields that vLLM reads.
STEP3P7: dict[str, Any] = {
    "text_config": {
        **{**DECODER, **STEP3P5, "model_type": "step_own_text", "architectures": ["Step3p5ForCausalLM"]},
        **{"att_impl_type": "GQA", "attention_other_setting": None, "moe_num_experts": 4, "need_fp32_gate": True},
        **{"moe_intermediate_size": 128, "moe_router_scaling_factor": 1.0, "norm_expert_weight": True},
        **{"use_moe_router_bias": True, "moe_router_activation": "softmax"},
        **{"swiglu_limits": None, "swiglu_limits_shared": None},
    },
    "vision_config": {**PERCEPTION, "model_type": "step_own_vision"},
    **{"projector_bias": False, "understand_projector_stride": 2, "image_token_id": 990},
}
NEMOTRON_VL: dict[str, Any] = {
    "text_config": {"model_type": "nemotron_h", "dtype": "float32", **NEMOTRON_H},
    "vision_config": {
        **{"model_type": "radio", "args": {"model": "vit_base_patch16_224"}},
        **{"video_temporal_patch_size": 2, "separate_video_embedder": True},
    },
    **{"force_image_size": 224, "patch_size": 16, "downsample_ratio": 0.5, "template": "plain", "ps_version": "v2"},
    **{"image_tag_type": "internvl", "projector_hidden_size": 128, "vit_hidden_size": 128, "sound_config": None},
    **{"norm_mean": [0.5, 0.5, 0.5], "norm_std": [0.5, 0.5, 0.5], "img_context_token_id": 990},
    **{"use_thumbnail": True, "max_dynamic_patch": 2, "min_dynamic_patch": 1, "img_context_token": "<image>"},
}
MOLMO: dict[str, Any] = {
    **{**DECODER, "embedding_size": 1000, "layer_norm_eps": 1e-5, "layer_norm_type": "rms", "norm_after": False},
    **{"attention_layer_norm": False, "qkv_bias": False, "weight_tying": False, "use_position_ids": True},
}
MOONDREAM: dict[str, Any] = {
    "config": {
        "text": {
            **{"dim": 128, "ff_dim": 256, "n_layers": 2, "vocab_size": 1000, "max_context": 512, "n_heads": 4},
            **{"n_kv_heads": 4, "prefix_attn": 730},
            "moe": {"start_layer": 1, "n_experts": 4, "n_experts_per_tok": 2, "expert_inner_dim": 128},
        },
        "vision": {"enc_dim": 128, "enc_n_layers": 2, "enc_ff_dim": 256, "enc_n_heads": 4, "proj_inner_dim": 256},
        "tokenizer": {"answer_id": 3},
    }
}
VISION_FIRST = {"vision_start_token_id": 992, "vision_end_token_id": 993, **IMAGE_TOKENS}
GEMMA4 = {"num_experts": None, "num_kv_shared_layers": 0}

OVIS_VISION: dict[str, Any] = {
    "visual_vocab_size": 128,
    "vit_config": {**FLAT_VISION, "model_type": "siglip2_navit", "hidden_stride": 2},
}
