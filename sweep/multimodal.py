"""What multimodal architectures need beyond configs.SMALL."""

from __future__ import annotations

from typing import Any

from sweep.configs import MLA_IN_FLOAT32, Entry

LLAMA: dict[str, Any] = {"model_type": "llama"}
QWEN2: dict[str, Any] = {"model_type": "qwen2"}
QWEN3: dict[str, Any] = {"model_type": "qwen3"}
SIGLIP: dict[str, Any] = {"model_type": "siglip_vision_model"}
IMAGE_TOKENS = {"image_token_id": 990, "image_token_index": 990, "video_token_id": 991, "video_token_index": 991}

# The vision tower of the InternVL family has no config class of its own.
INTERN_VIT: dict[str, Any] = {
    **{"model_type": "intern_vit_6b", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "image_size": 448, "patch_size": 14, "num_channels": 3, "qk_normalization": False},
    **{"layer_norm_eps": 1e-6, "norm_type": "layer_norm", "initializer_factor": 0.1, "hidden_act": "gelu"},
    **{"qkv_bias": True, "use_flash_attn": False},
}


def intern_vl(text: dict[str, Any], **more: Any) -> Entry:
    fields = {
        **{"llm_config": text, "text_config": text, "vision_config": INTERN_VIT, "downsample_ratio": 0.5},
        **{"select_layer": -1, "ps_version": "v2", "force_image_size": 448, "use_thumbnail": True},
        **{"dynamic_image_size": True, "min_dynamic_patch": 1, "max_dynamic_patch": 2, "template": "plain"},
    }
    return Entry("internvl_chat", {**fields, **more})


MULTIMODAL: dict[str, Entry] = {
    "BagelForConditionalGeneration": Entry("bagel"),
    "BailingMoeV3VLForConditionalGeneration": Entry("bailing_moe_v3_vl", options=MLA_IN_FLOAT32),
    "BeeForConditionalGeneration": Entry("llava_onevision"),
    "Cosmos3ForConditionalGeneration": Entry("qwen3_vl"),
    "DeepseekVLV2ForCausalLM": Entry("deepseek_vl_v2", {"language_config": {"kv_lora_rank": None}}),
    "DotsOCRForCausalLM": Entry(
        "dots_ocr", {"vision_config": {}, **{name: QWEN2[name] for name in QWEN2 if name != "model_type"}}
    ),
    "Eagle2_5_VLForConditionalGeneration": intern_vl(QWEN2, vision_config=SIGLIP),
    "GLM4VForCausalLM": Entry("chatglm", {"original_rope": True}),
    "H2OVLChatModel": intern_vl(LLAMA),
    "InternVLChatModel": intern_vl(QWEN2),
    "InternS1ForConditionalGeneration": Entry("internvl"),
    "InternS1ProForConditionalGeneration": Entry("qwen3_vl_moe"),
    "InternS2PreviewForConditionalGeneration": Entry("qwen3_5_moe"),
    "IsaacForConditionalGeneration": Entry("isaac"),
    "KimiVLForConditionalGeneration": Entry("kimi_vl", options=MLA_IN_FLOAT32),
    "KimiK25ForConditionalGeneration": Entry("kimi_k25", options=MLA_IN_FLOAT32),
    "LightOnOCRForConditionalGeneration": Entry("mistral3"),
    "MiDashengLMModel": Entry("midashenglm"),
    "Moondream3ForCausalLM": Entry("moondream3"),
    "HfMoondream": Entry("moondream3"),
    "MossTranscribeDiarizeForConditionalGeneration": Entry("moss_transcribe_diarize"),
    "MuseGlimmerForConditionalGeneration": Entry("muse_glimmer", {"vision_config": {"output_dim": 512}}),
    "NVLM_D": intern_vl(QWEN2),
    "OpenVLAForActionPrediction": Entry("openvla"),
    "Ovis": Entry("ovis"),
    "Ovis2_5": Entry("ovis"),
    "Phi3VForCausalLM": Entry("phi3"),
    "PixtralForConditionalGeneration": Entry("llava"),
    "QianfanOCRForConditionalGeneration": Entry("qianfan_ocr"),
    "Qwen2_5OmniModel": Entry("qwen2_5_omni"),
    "Qwen3ASRRealtimeGeneration": Entry("qwen3_asr"),
    "RForConditionalGeneration": Entry("llava_onevision"),
    "SkyworkR1VChatModel": intern_vl(QWEN2),
    "StepVLForConditionalGeneration": Entry("step3_vl"),
    "Step3VLForConditionalGeneration": Entry("step3_vl"),
    "UltravoxModel": Entry("ultravox"),
    "UnlimitedOCRForCausalLM": Entry("unlimited-ocr"),
    "VoxtralRealtimeGeneration": Entry("voxtral_realtime"),
}
