"""The entries of text-generation architectures, and the parts of language models that multimodal entries share."""

from __future__ import annotations

from typing import Any

from sweep.entries import MLA_IN_FLOAT32, Entry
from sweep.sizes import DECODER, EXPERTS, MLA_SIZES

LLAMA: dict[str, Any] = {"model_type": "llama"}
QWEN2: dict[str, Any] = {"model_type": "qwen2"}
QWEN3: dict[str, Any] = {"model_type": "qwen3"}

# For models that mix in linear attention: its kernels need a GPU or a newer CPU, attention layers run anywhere.
ATTENTION_ONLY: dict[str, Any] = {"layer_types": ["full_attention"] * 2}
DECI_BLOCK: dict[str, Any] = {
    "attention": {"no_op": False, "replace_with_linear": False, "n_heads_in_group": 2},
    "ffn": {"no_op": False, "replace_with_linear": False, "ffn_mult": 2.0},
}
BAILING: dict[str, Any] = {
    **DECODER,
    **EXPERTS,
    **{"head_dim": 32, "use_bias": False, "use_qkv_bias": False, "embedding_dropout": 0.0, "norm_head": True},
}
BAILING_HYBRID: dict[str, Any] = {**BAILING, **MLA_SIZES, "layer_group_size": 1, "n_group": 1, "topk_group": 1}
MIMO_V2: dict[str, Any] = {
    **{**DECODER, **EXPERTS, "n_routed_experts": 4, "layernorm_epsilon": 1e-5, "head_dim": 32},
    **{"hybrid_layer_pattern": [0, 1], "moe_layer_freq": [0, 1], "n_group": 1, "topk_group": 1},
    **{"sliding_window": 128, "sliding_window_size": 128, "swa_head_dim": 32, "v_head_dim": 32, "swa_v_head_dim": 32},
    **{"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "scoring_func": "sigmoid"},
}

STEP3P5: dict[str, Any] = {
    **{"num_attention_groups": 2, "moe_top_k": 2, "share_expert_dim": 128, "layer_types": ["full_attention"] * 2},
    **{"moe_layers_enum": "1", "tie_word_embeddings": False, "sliding_window": 128, "head_dim": 32},
}

STEP5: dict[str, Any] = {
    **{"num_attention_groups": 2, "moe_top_k": 2, "share_expert_dim": 128, "layer_types": ["full_attention"] * 2},
    **{"moe_layers_enum": "1", "use_moe": True, "sliding_window": 128},
}

K2_HORIZON: dict[str, Any] = {
    **{**DECODER, **EXPERTS, "head_dim": 32, "rope_head_dim": 32, "decoder_sparse_step": 1, "mlp_only_layers": []},
    **{"mova_num_experts": 0, "mova_num_experts_per_tok": 0, "attention_gate_func": "softplus", "moe_gate_bias": False},
    **{"layernorm_num_groups": 1, "query_key_norm": True, "router_scaling_factor": 1.0, "router_score_func": "softmax"},
}

NEMOTRON_H: dict[str, Any] = {
    **{"layers_block_type": ["mamba", "attention", "mlp"], "num_hidden_layers": 3},
    **{"mamba_num_heads": 8, "mamba_head_dim": 32, "n_groups": 1, "ssm_state_size": 64},
}

LONGCAT: dict[str, Any] = {
    **{"mla_scale_q_lora": True, "mla_scale_kv_lora": True, "zero_expert_num": 0},
    **{"zero_expert_type": "identity", "moe_intermediate_size": 128, "intermediate_size": 256},
}

GLM5_NEXT: dict[str, Any] = {
    **{"num_key_value_heads": 4, "qk_rope_head_dim": 0, "layer_types": ["full_attention"] * 2, "mhc": False},
    **{"scoring_func": "sigmoid", "topk_method": "noaux_tc", "mla_use_nope": True},
    **{"indexer_rope_interleave": False},
}
MINIMAX_M3: dict[str, Any] = {**DECODER, "head_dim": 32, "num_local_experts": 4, "hidden_act": "swigluoai"}
QWEN4_EXP: dict[str, Any] = {"output_gate_type": "silu"}
DEEPSEEK_V4: dict[str, Any] = {
    **{**DECODER, **EXPERTS, **MLA_SIZES, "n_routed_experts": 4, "n_shared_experts": 1, "head_dim": 512},
    **{"hc_eps": 1e-6, "hc_mult": 4, "hc_sinkhorn_iters": 20, "index_topk": 64, "num_hash_layers": 0},
    **{"index_n_heads": 4, "index_head_dim": 128, "swiglu_limit": 10.0, "sliding_window": 128, "o_groups": 2},
    **{"o_lora_rank": 64, "compress_ratios": [0, 4], "compress_rope_theta": 10000.0, "scoring_func": "sqrtsoftplus"},
    **{"routed_scaling_factor": 1.5},
}

TEXT: dict[str, Entry] = {
    "AfmoeForCausalLM": Entry(
        fields={"score_func": "sigmoid", "route_norm": True, "n_group": 1, "topk_group": 1, "num_dense_layers": 1}
    ),
    "AliceAIForCausalLM": Entry(
        "alice_ai",
        {
            **{**DECODER, **EXPERTS, **ATTENTION_ONLY, "head_dim": 32, "shared_expert_intermediate_size": 128},
            **{"block_attn_res_block_size": 2, "linear_conv_kernel_dim": 4, "kda_allow_negative_eigenvalues": False},
            **{"router_score_function": "sigmoid", "router_bias_correction": True},
            **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
            **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 32),
        },
    ),
    "AXK1ForCausalLM": Entry(options=MLA_IN_FLOAT32),
    "BailingMoeForCausalLM": Entry("bailing_moe", BAILING),
    "BailingMoeV2ForCausalLM": Entry("bailing_moe", BAILING),
    "BailingMoeV2_5ForCausalLM": Entry("bailing_hybrid", BAILING_HYBRID, dtype="bfloat16"),
    "BailingMoeV3ForCausalLM": Entry(
        "bailing_hybrid",
        {
            **BAILING_HYBRID,
            "short_conv_kernel_size": 4,
            "no_kda_lora": True,
            "moe_shared_expert_intermediate_size": 128,
        },
        dtype="bfloat16",
    ),
    "BeamForCausalLM": Entry(
        "beam",
        {"layer_types": ["sliding_attention", "full_attention"], "mlp_layer_types": ["dense", "sparse"]},
    ),
    "ChatGLMModel": Entry("chatglm", {"original_rope": True, "tie_word_embeddings": False}),
    "ChatGLMForConditionalGeneration": Entry("chatglm", {"original_rope": True, "tie_word_embeddings": False}),
    "DbrxForCausalLM": Entry(
        fields={
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 256, "moe_num_experts": 4, "moe_top_k": 2},
        }
    ),
    "DeciLMForCausalLM": Entry("deci", {**DECODER, "block_configs": [DECI_BLOCK] * 2}),
    "DeepseekForCausalLM": Entry(
        "deepseek", {**DECODER, **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "moe_layer_freq": 1}
    ),
    "DeepseekV2ForCausalLM": Entry(options=MLA_IN_FLOAT32),
    "DeepseekV3ForCausalLM": Entry(options=MLA_IN_FLOAT32),
    "DomynEdgeForCausalLM": Entry(
        "domyn_edge",
        {
            **{**DECODER, "head_dim": 32, "position_layers": ["rope", "nope"]},
            "window_sizes": [[127, 0], [-1, -1]],
        },
    ),
    "DoryForCausalLM": Entry(
        "dory",
        {
            **{"num_hidden_layers": 4, "layer_types": ["sliding_attention", "mlp", "full_attention", "mlp"]},
            **{"n_input_layers": 1, "n_recurrent_layers": 2, "n_output_layers": 1, "n_recurrent_loops": 2},
        },
    ),
    "ExaoneForCausalLM": Entry(
        "exaone", {**DECODER, "activation_function": "silu", "layer_norm_epsilon": 1e-5, "num_layers": 2}
    ),
    "ExaoneMoEForCausalLM": Entry("exaone_moe"),
    "Rnj1ForCausalLM": Entry("gemma3_text"),
    "Gemma3nForCausalLM": Entry(fields={"num_kv_shared_layers": 0}),
    "Gemma4ForCausalLM": Entry(fields={"num_experts": None, "num_kv_shared_layers": 0}),
    "Glm4MoeForCausalLM": Entry(fields={"head_dim": 32, "first_k_dense_replace": 1}),
    "Glm4MoeLiteForCausalLM": Entry(fields={"first_k_dense_replace": 1}, options=MLA_IN_FLOAT32),
    "FlintForCausalLM": Entry("flint", {"mlp_only_layers": [0]}),
    "GPTJForCausalLM": Entry(fields={"rotary_dim": 16}),
    "HYV3ForCausalLM": Entry(fields={"first_k_dense_replace": 1, "expert_hidden_dim": 128, "route_norm": True}),
    "HCXVisionV2ForCausalLM": Entry(
        "hyperclovax_vlm",
        {
            **{"text_config": {"model_type": "hyperclovax"}, "vision_config": {"model_type": "qwen2_5_vl_vision"}},
            **{"image_token_id": 990, "video_token_id": 991},
        },
        {"language_model_only": True},
    ),
    "HYV4ForCausalLM": Entry(options=MLA_IN_FLOAT32),
    "InternLM2ForCausalLM": Entry("internlm2", {**DECODER, "bias": False}),
    "InternLM3ForCausalLM": Entry("llama"),
    "IQuestCoderForCausalLM": Entry("llama"),
    "IQuestLoopCoderForCausalLM": Entry("iquestloopcoder", {**DECODER, "head_dim": 32}),
    "K2HorizonForCausalLM": Entry("k2_horizon", K2_HORIZON),
    "KimiLinearForCausalLM": Entry(
        fields={
            **{"num_experts_per_token": 2, "q_lora_rank": None, "num_expert_group": 1, "topk_group": 1},
            "linear_attn_config": {
                **{"kda_layers": [], "full_attn_layers": [1, 2], "num_heads": 4, "head_dim": 32},
                "short_conv_kernel_size": 4,
            },
        },
        options=MLA_IN_FLOAT32,
    ),
    "LLaMAForCausalLM": Entry("llama"),
    "Lfm2ForCausalLM": Entry(fields={"block_dim": 128, "conv_dim": 128, "layer_types": ["conv", "full_attention"]}),
    "Lfm2MoeForCausalLM": Entry(
        fields={"conv_dim": 128, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1}
    ),
    "LagunaForCausalLM": Entry(fields={"num_attention_heads_per_layer": [4, 4], "mlp_layer_types": ["dense", "dense"]}),
    "Llama4ForCausalLM": Entry("llama4_text", {"num_experts_per_tok": 1}),
    "LongcatFlashForCausalLM": Entry("longcat_flash", LONGCAT, MLA_IN_FLOAT32),
    "LongcatFlashNgramForCausalLM": Entry("longcat_flash", LONGCAT, MLA_IN_FLOAT32),
    "Glm5NextForCausalLM": Entry("glm5_next_text", GLM5_NEXT, MLA_IN_FLOAT32),
    "MiniMaxM3SparseForCausalLM": Entry("minimax_m3_vl", {"text_config": MINIMAX_M3}, whole=True),
    "DeepseekV4ForCausalLM": Entry("deepseek_v4", DEEPSEEK_V4, whole=True),
    "Qwen4ExpForCausalLM": Entry(fields={"text_config": QWEN4_EXP}),
    "MiniCPMForCausalLM": Entry(
        "minicpm", {**DECODER, "dim_model_base": 64, "scale_depth": 1.4, "scale_emb": 2.0, "num_experts": 0}
    ),
    "MiniCPM3ForCausalLM": Entry(options=MLA_IN_FLOAT32),
    "MistralLarge3ForCausalLM": Entry("deepseek_v3", options=MLA_IN_FLOAT32),
    "MiMoForCausalLM": Entry("qwen2"),
    "MuseGlimmerForCausalLM": Entry("muse_glimmer", {"vision_config": {"output_dim": 512}}),
    "MiMoV2FlashForCausalLM": Entry(fields=MIMO_V2),
    "MiniMaxM2ForCausalLM": Entry(fields={"rotary_dim": 32, "scoring_func": "softmax", "use_qk_norm": True}),
    "Mamba2ForCausalLM": Entry(fields={"num_heads": 8, "head_dim": 32, "n_groups": 1, "state_size": 64}),
    "MiMoV2ForCausalLM": Entry("mimo_v2", MIMO_V2),
    "OrionForCausalLM": Entry("orion", DECODER),
    "PanguEmbeddedForCausalLM": Entry("pangu_embedded", {**DECODER, "bias": True}),
    "PanguProMoEV2ForCausalLM": Entry(
        "pangu_pro_moe_v2",
        {**DECODER, **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "routed_scaling_factor": 1.0},
    ),
    "PanguUltraMoEForCausalLM": Entry(
        "pangu_ultra_moe",
        {
            **{**DECODER, **EXPERTS, **MLA_SIZES, "n_routed_experts": 4, "n_shared_experts": 1},
            **{"routed_scaling_factor": 1.0, "sandwich_norm": True},
        },
        MLA_IN_FLOAT32,
    ),
    "Param2MoEForCausalLM": Entry(
        "param2moe", {**DECODER, **EXPERTS, "head_dim": 32, "rope_scaling": None, "score_function": "softmax"}
    ),
    "PhiMoEForCausalLM": Entry("phimoe"),
    "Plamo3ForCausalLM": Entry(
        "plamo3",
        {
            **{**DECODER, "head_dim": 32, "rope_local_theta": 10000, "interleaved_sliding_window": [128, None]},
            **{"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 128},
        },
    ),
    "JambaForCausalLM": Entry(fields={"attn_layer_period": 1, "attn_layer_offset": 0}),
    "NemotronHForCausalLM": Entry("nemotron_h", NEMOTRON_H),
    "NemotronHPuzzleForCausalLM": Entry("nemotron_h", NEMOTRON_H),
    "Zamba2ForCausalLM": Entry(
        fields={"layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1, "head_dim": 64, "n_mamba_heads": 8}
    ),
    "Qwen3NextForCausalLM": Entry(fields=ATTENTION_ONLY),
    "Qwen3_5ForCausalLM": Entry("qwen3_5_text", ATTENTION_ONLY),
    "Qwen3_5MoeForCausalLM": Entry("qwen3_5_moe_text", ATTENTION_ONLY),
    "SarvamMoEForCausalLM": Entry("sarvam_moe", BAILING),
    "SarvamMLAForCausalLM": Entry(
        "sarvam_mla", {**BAILING, **MLA_SIZES, "q_lora_rank": None, "head_dim": 576}, MLA_IN_FLOAT32
    ),
    "SolarForCausalLM": Entry(
        "llama",
        {**dict.fromkeys(("bskcn_1", "bskcn_2", "bskcn_3", "bskcn_4"), ()), "bskcn_tv": [0.9, 0.8]},
    ),
    "Step1ForCausalLM": Entry("step1", {**DECODER, "num_key_value_heads": 2}),
    "Step3TextForCausalLM": Entry(
        "step3_text", {"moe_layers_enum": "1", "moe_top_k": 2, "share_expert_dim": 128, "share_q_dim": 64}
    ),
    "Step3p5ForCausalLM": Entry("step3p5", STEP3P5),
    "Step5ForCausalLM": Entry("step5", STEP5),
    "TeleChat2ForCausalLM": Entry(
        "telechat",
        {
            **DECODER,
            "bias": False,
            "n_head": 4,
            "n_layer": 2,
            "mlp_bias": False,
            "ffn_hidden_size": 256,
            "layer_norm_epsilon": 1e-5,
        },
    ),
    "TeleChat3ForCausalLM": Entry("llama"),
    "TeleFLMForCausalLM": Entry(
        "TeleFLM", {**DECODER, "use_mup": True, "output_mult": 1.0, "mup_scale_factor": 0.7, "input_mult": 1.0}
    ),
}
