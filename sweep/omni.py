"""The entries of architectures that see and hear, as far as both stand in the entry."""

from __future__ import annotations

from typing import Any

from sweep.entries import Entry
from sweep.sizes import DECODER
from sweep.text import MIMO_V2
from sweep.vision import FLAT_VISION, MIMO_VISION, NEMOTRON_VL, VISION_FIRST

MUSE_SPARK: dict[str, Any] = {
    "text_config": {
        **{**DECODER, "model_type": "muse_spark_text", "head_dim": 32, "sliding_window": 128, "num_local_experts": 4},
        **{"num_experts_per_tok": 2, "num_shared_experts": 0, "moe_hidden_size": 128, "moe_intermediate_size": 128},
        **{"layer_types": ["sliding_attention", "full_attention"], "mlp_layer_types": ["dense", "sparse"]},
        **{"layer_rope_theta": [10000.0, 10000.0], "output_multiplier": 0.5, "final_logit_softcapping": 4.0},
        **{"routed_scaling_factor": 1.0, "post_norm_eps": 1e-5, "qk_scale_factor": 1.0},
        **{"residual_gate_temperature": 1.0, "attention_bias": False},
    },
    "vision_config": {
        **{"model_type": "muse_spark_vision", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "hidden_act": "gelu", "layer_types": ["window_attention", "full_attention"]},
        **{"rope_parameters": {"rope_type": "axial", "rope_theta": 10000.0}, "merge_size": 2, "patch_size": 14},
        **{"patch_temporal": 2, "layer_norm_eps": 1e-5, "pos_emb_height": 4, "pos_emb_width": 4},
    },
    "audio_config": {
        **{"model_type": "muse_spark_audio", "hidden_act": "gelu", "num_hidden_layers": 2, "patch_sizes": [2, 2]},
        **{"depths": [1, 1], "hidden_sizes": [64, 128], "out_hidden_size": 128, "conv_kernel_size": 3},
        **{"mlp_ratio": 2, "rms_norm_eps": 1e-5},
    },
    **{"projector_hidden_size": 128, "out_hidden_size": 512, "image_token_id": 990},
}

OMNI: dict[str, Entry] = {
    "MiMoV2OmniForCausalLM": Entry(
        "mimo_v2_omni",
        {
            **{**MIMO_V2, "vision_config": {**FLAT_VISION, **MIMO_VISION}, "audio_config": None},
            **VISION_FIRST,
        },
    ),
    "MiniCPMO": Entry(
        "minicpmo",
        {
            **{**DECODER, "version": "2.6", "query_num": 16, "drop_vision_last_layer": False, "slice_mode": True},
            "vision_config": {**FLAT_VISION, "model_type": "siglip_vision_model"},
            "audio_config": {"model_type": "whisper"},
            **{"audio_pool_step": 2, "audio_chunk_length": 1, "init_audio": False, "init_tts": False},
        },
    ),
    "MuseSparkForConditionalGeneration": Entry("muse_spark", MUSE_SPARK, whole=True),
    **dict.fromkeys(
        ("NemotronH_Nano_Omni_Reasoning_V3", "NemotronH_Omni_Reasoning_V3", "NemotronH_Super_Omni_Reasoning_V3"),
        Entry("NemotronH_Nano_VL_V2", NEMOTRON_VL),
    ),
    "Qwen2_5OmniModel": Entry("qwen2_5_omni"),
    "Qwen3OmniMoeForConditionalGeneration": Entry(
        fields={
            "thinker_config": {
                "model_type": "qwen3_omni_moe_thinker",
                "vision_config": {"image_size": 64, "apply_vit_abs_pos_embed": True, "out_hidden_size": 128},
                "text_config": {"norm_topk_prob": True, "tie_word_embeddings": False},
            }
        }
    ),
}
