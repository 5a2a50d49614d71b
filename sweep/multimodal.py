"""The entries of architectures that see (those that need an entry for what they hear are in omni.py)."""

from __future__ import annotations

from sweep.entries import MLA_IN_FLOAT32, Entry
from sweep.sizes import DECODER
from sweep.text import (
    ATTENTION_ONLY,
    DEEPSEEK_V4,
    GLM5_NEXT,
    LLAMA,
    MINIMAX_M3,
    QWEN2,
    QWEN3,
    QWEN4_EXP,
    STEP5,
)
from sweep.vision import (
    DEEPSEEK_VL,
    DOTS,
    ERNIE_VL,
    FLAT_VISION,
    GEMMA4,
    IMAGE_TOKENS,
    MOLMO,
    MOONDREAM,
    NEMOTRON_VL,
    OVIS_VISION,
    PERCEPTION,
    SIGLIP,
    STEP3P7,
    VISION_FIRST,
    intern_vl,
)

MULTIMODAL: dict[str, Entry] = {
    "Alpamayo2Super": Entry(  # its trajectory tokens come after the tokenizer's, and it never samples them
        "alpamayo2_super",
        {
            **{"text_config": {"vocab_size": 1060}, "traj_ids": {"history_id0": 1000, "future_id0": 1020}},
            **{"history_vocab_size": 20, "future_vocab_size": 40},
        },
    ),
    "CohereCompassForConditionalGeneration": Entry(
        fields={"text_config": {"tie_word_embeddings": True}, "tie_word_embeddings": True}
    ),
    "DeepseekVLV2ForCausalLM": Entry("deepseek_vl_v2", DEEPSEEK_VL, whole=True),
    "DeepseekOCRForCausalLM": Entry("deepseek_vl_v2", DEEPSEEK_VL, whole=True),
    "DeepseekOCR2ForCausalLM": Entry("deepseek_vl_v2", DEEPSEEK_VL, whole=True),
    "UnlimitedOCRForCausalLM": Entry("unlimited-ocr", DEEPSEEK_VL, whole=True),
    "DeepseekV41ForCausalLM": Entry("deepseek_v41", DEEPSEEK_V4, whole=True),
    "DeepseekV4ForConditionalGeneration": Entry("deepseek_v4", DECODER, whole=True),
    "Dots3NoteForCausalLM": Entry("dots3_note"),
    "DotsOCRForCausalLM": Entry(
        "dots_ocr", {**DECODER, "vision_config": {**FLAT_VISION, **DOTS, "model_type": "dots_vit"}, **IMAGE_TOKENS}
    ),
    "Ernie4_5_VLMoeForConditionalGeneration": Entry("ernie4_5_moe_vl", ERNIE_VL),
    "Gemma4ForConditionalGeneration": Entry(
        fields={"text_config": GEMMA4, "vision_config": {"model_type": "gemma4_vision"}}
    ),
    "Gemma4UnifiedForConditionalGeneration": Entry(
        fields={"text_config": GEMMA4, "vision_config": {"model_type": "gemma4_unified_vision"}}
    ),
    "GLM4VForCausalLM": Entry(
        "chatglm",
        {
            **{"original_rope": True, "boi_token_id": 992, "eoi_token_id": 993, "tie_word_embeddings": False},
            "vision_config": {**FLAT_VISION, "num_positions": 17, "dropout_prob": 0.0, "scaling_factor": 8},
        },
    ),
    "Glm4vMoeForConditionalGeneration": Entry(fields={"text_config": {"head_dim": 32, "use_qk_norm": False}}),
    "Glm5NextForConditionalGeneration": Entry(fields={"text_config": GLM5_NEXT}, options=MLA_IN_FLOAT32),
    "Granite4VisionForConditionalGeneration": Entry(
        fields={
            **{"deepstack_layer_map": [[0, 0]], "spatial_target_layers": [0], "downsample_rate": "1/2"},
            "text_config": {"model_type": "granite"},
        }
    ),
    "InternS2MobiusForConditionalGeneration": Entry(
        "interns2_mobius",
        {
            "text_config": {"model_type": "qwen3_5_moe_text", **ATTENTION_ONLY, "num_blocks": 1},
            **{"vision_config": {"model_type": "qwen3_vl_vision"}, **VISION_FIRST},
        },
    ),
    "KananaVForConditionalGeneration": Entry(
        "kanana-1.5-v",
        {
            **{"text_config": LLAMA, "vision_config": {**FLAT_VISION, "model_type": "kanana_vision"}},
            "projector_config": {
                **{"model_type": "kanana_projector", "encoder_hidden_size": 128, "hidden_size": 128, "depth": 1},
                **{"output_hidden_size": 128, "merge_size": 2, "mlp_depth": 1, "pos_emb": True, "pos_emb_size": 16},
            },
        },
    ),
    **dict.fromkeys(
        ("KeyeForConditionalGeneration", "KeyeVL1_5ForConditionalGeneration"),
        Entry(
            "Keye",
            {**DECODER, "head_dim": 32, "vision_config": {**FLAT_VISION, "model_type": "keye_vision"}, **VISION_FIRST},
        ),
    ),
    "KimiK3ForConditionalGeneration": Entry("kimi_k3", options=MLA_IN_FLOAT32),
    "Lfm2VlForConditionalGeneration": Entry(
        fields={"text_config": {"block_dim": 128, "conv_dim": 128, "layer_types": ["conv", "full_attention"]}}
    ),
    "Llama4ForConditionalGeneration": Entry(fields={"text_config": {"num_experts_per_tok": 1}}),
    "Llama_Nemotron_Nano_VL": Entry("Llama_Nemotron_Nano_VL", {**NEMOTRON_VL, "text_config": LLAMA}),
    "LlavaOnevision2ForConditionalGeneration": Entry(
        "llava_onevision2",
        {
            **{"text_config": QWEN3, "vision_config": {**FLAT_VISION, "model_type": "llava_onevision2_vision"}},
            **VISION_FIRST,
        },
    ),
    "MiniCPMV": Entry(
        "minicpmv",
        {
            **{**DECODER, "version": "2.6", "query_num": 16, "drop_vision_last_layer": False, "slice_mode": True},
            "vision_config": {**FLAT_VISION, "model_type": "siglip_vision_model"},
        },
    ),
    "MiniCPMOcrForConditionalGeneration": Entry("minicpmv4_6", {"text_config": ATTENTION_ONLY}),
    "MiniMaxM3SparseForConditionalGeneration": Entry(
        "minimax_m3_vl",
        {
            "text_config": MINIMAX_M3,
            "vision_config": {**FLAT_VISION, "model_type": "minimax_vision", "img_token_compression_config": {}},
        },
        whole=True,
    ),
    "MiniCPMV4_6ForConditionalGeneration": Entry(fields={"text_config": ATTENTION_ONLY}),
    "MiniCPMV4_7ForConditionalGeneration": Entry(fields={"text_config": ATTENTION_ONLY}),
    "MolmoForCausalLM": Entry("molmo", MOLMO),
    "Molmo2ForConditionalGeneration": Entry(
        "molmo2",
        {
            "text_config": {
                **{**MOLMO, "model_type": "molmo2_text", "additional_vocab_size": 0, "head_dim": 32},
                **{"use_qk_norm": True, "qk_norm_type": "qwen3", "rope_scaling_layers": None},
            },
            "vit_config": {
                **{**FLAT_VISION, "model_type": "molmo2_vit", "image_num_patch": [4, 4], "image_num_pos": 16},
                **{"image_patch_size": 14, "num_key_value_heads": 4, "head_dim": 32},
                "image_default_input_size": [56, 56],
            },
            "adapter_config": {
                **{"model_type": "molmo2_adapter", "head_dim": 32, "hidden_act": "silu", "hidden_size": 128},
                **{"intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "vit_layers": [-1]},
                **{"pooling_attention_mask": True, "text_hidden_size": 128},
            },
            **{"image_patch_id": 990, "image_col_id": 991, "image_start_token_id": 992, "image_end_token_id": 993},
            **{"image_low_res_id": 994, "low_res_image_start_token_id": 995, "frame_start_token_id": 996},
            **{"frame_end_token_id": 997, "tie_word_embeddings": False},
        },
    ),
    "NemotronH_Nano_VL_V2": Entry("NemotronH_Nano_VL_V2", NEMOTRON_VL),
    "NemotronParseForConditionalGeneration": Entry(
        "nemotron_parse",
        {**DECODER, "is_encoder_decoder": True, "image_size": [64, 64], "encoder": {"model_type": "radio"}},
    ),
    "OpenCUAForConditionalGeneration": Entry(
        "opencua",
        {
            **{"text_config": QWEN2, "vision_config": {**FLAT_VISION, "model_type": "opencua_vision"}},
            "media_placeholder_token_id": 990,
        },
    ),
    "OpenPanguVLForConditionalGeneration": Entry(
        "openpangu_vl",
        {
            **{**DECODER, "vision_config": {**FLAT_VISION, "model_type": "openpangu_vision"}, **VISION_FIRST},
            "bias": True,
        },
    ),
    "Ovis2_6ForCausalLM": Entry("ovis2_6", {"llm_config": QWEN3, "text_config": QWEN3, **OVIS_VISION}),
    "Ovis2_6_MoeForCausalLM": Entry(
        "ovis2_6_moe",
        {"llm_config": {"model_type": "qwen3_moe"}, "text_config": {"model_type": "qwen3_moe"}, **OVIS_VISION},
    ),
    "Ovis2_5": Entry("ovis2_5", {"llm_config": QWEN3, "text_config": QWEN3, **OVIS_VISION}),
    "Phi4ForCausalLMV": Entry(
        "phi4-siglip",
        {
            **{**DECODER, "mm_hidden_size": 128, "vision_config": {"model_type": "siglip2_vision_model"}},
            **{"partial_rotary_factor": 1.0, "original_max_position_embeddings": 512, "rope_scaling": None},
            **{"min_num_patches": 4, "max_num_patches": 16, "resid_pdrop": 0.0},
        },
    ),
    "Moondream3ForCausalLM": Entry("moondream3", MOONDREAM, whole=True),
    "HfMoondream": Entry("moondream3", MOONDREAM, whole=True),
    "InternS2PreviewForConditionalGeneration": Entry("qwen3_5_moe", {"text_config": ATTENTION_ONLY}),
    "Qwen3_5ForConditionalGeneration": Entry(fields={"text_config": ATTENTION_ONLY}),
    "Qwen3_5MoeForConditionalGeneration": Entry(fields={"text_config": ATTENTION_ONLY}),
    "BagelForConditionalGeneration": Entry("bagel"),
    "BailingMoeV3VLForConditionalGeneration": Entry("bailing_moe_v3_vl", options=MLA_IN_FLOAT32),
    "BeeForConditionalGeneration": Entry("llava_onevision"),
    "Cosmos3EdgeForConditionalGeneration": Entry(
        fields={
            "text_config": {
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]},
                "num_hidden_layers": 2,
            }
        }
    ),
    "Cosmos3ForConditionalGeneration": Entry("qwen3_vl"),
    "Eagle2_5_VLForConditionalGeneration": intern_vl(QWEN2, vision_config=SIGLIP),
    "H2OVLChatModel": intern_vl(LLAMA),
    "InternVLChatModel": intern_vl(QWEN2),
    "InternS1ForConditionalGeneration": Entry("internvl"),
    "InternS1ProForConditionalGeneration": Entry("qwen3_vl_moe", {"text_config": {"norm_topk_prob": True}}),
    "IsaacForConditionalGeneration": Entry("isaac"),
    "KimiVLForConditionalGeneration": Entry("kimi_vl", options=MLA_IN_FLOAT32),
    "KimiK25ForConditionalGeneration": Entry("kimi_k25", options=MLA_IN_FLOAT32),
    "LightOnOCRForConditionalGeneration": Entry("mistral3"),
    "MuseGlimmerForConditionalGeneration": Entry("muse_glimmer", {"vision_config": {"output_dim": 512}}),
    "NVLM_D": intern_vl(QWEN2),
    "OpenVLAForActionPrediction": Entry("openvla"),
    "Ovis": Entry(
        "ovis",
        {
            "llm_config": {**DECODER, "model_type": "qwen2"},
            "visual_tokenizer_config": {
                **{"model_type": "siglip_visual_tokenizer", "vocab_size": 128, "hidden_stride": 2},
                "backbone_config": {**FLAT_VISION, "model_type": "siglip_vision_model"},
            },
            "hidden_size": 128,
        },
        whole=True,
    ),
    "Phi3VForCausalLM": Entry(
        "phi3",
        {
            "img_processor": {"image_dim_out": 1024, "name": "clip_vision_model", "num_img_tokens": 144},
            "embd_layer": {
                **{"embedding_cls": "image", "hd_transform_order": "sub_glb", "projection_cls": "mlp"},
                **{"use_hd_transform": True, "with_learnable_separator": True},
            },
        },
    ),
    "PixtralForConditionalGeneration": Entry(  # Mistral's own format, which transformers' classes do not carry
        "mistral_pixtral",
        {
            "text_config": {**DECODER, "model_type": "mistral", "head_dim": 32},
            "vision_config": {
                **{**FLAT_VISION, "model_type": "mistral_vision", "rope_theta": 10000.0, "image_token_id": 990},
            },
        },
    ),
    "QianfanOCRForConditionalGeneration": Entry("qianfan_ocr"),
    "RadioMBartPrefixForCausalLM": Entry(
        "radio_mbart_prefix",
        {
            **{**DECODER, "image_size": [64, 64], "navit_packing": True},
            "encoder": {"model_type": "radio", "args": {"model": "vit_base_patch16_224"}},
            "decoder": {
                **{"model_type": "mbart", "causal_vision_prefix": True, "add_cross_attention": False},
                **{"self_attention_kv_heads": 2, "is_decoder": True, "decoder_ffn_dim": 256},
            },
        },
    ),
    "RForConditionalGeneration": Entry("llava_onevision"),
    "SkyworkR1VChatModel": intern_vl(QWEN2),
    "Step3p7ForConditionalGeneration": Entry("step_own_code", STEP3P7),
    "Step5ForConditionalGeneration": Entry("step5_vl", {"text_config": STEP5, "vision_config": PERCEPTION}),
    "StepVLForConditionalGeneration": Entry(
        "step3_vl",
        {
            "text_config": {**DECODER, "head_dim": 32, "architectures": ["Qwen3ForCausalLM"]},
            "vision_config": PERCEPTION,
        },
    ),
    "Step3VLForConditionalGeneration": Entry(
        "step3_vl",
        {
            "text_config": {
                **{"architectures": ["Step3TextForCausalLM"], "moe_layers_enum": "1", "moe_top_k": 2},
                **{"share_expert_dim": 128, "share_q_dim": 64},
            }
        },
    ),
    "Qwen4ExpForConditionalGeneration": Entry(fields={"text_config": QWEN4_EXP}),
    "Qwen3VLMoeForConditionalGeneration": Entry(fields={"text_config": {"norm_topk_prob": True}}),
}
