"""Why an architecture could not be built here, and what was left out of one that was; in words, for the table."""

from __future__ import annotations

SPARSE = "its sparse attention is not supported on CPU"
NO_SCAN = "vLLM has no CPU kernel for its selective scan"
HYBRID_MLA = "its cache is aligned to blocks of 128 tokens, and vLLM's MLA in float32 on CPU takes blocks of 16"
ATTENTION_ONLY = "with attention layers only: its linear attention needs a newer CPU or a GPU"
FLASHINFER = "its norms are those of flashinfer, which is for GPUs"
TRITON_NORMS = "its norms are written in Triton, which has no CPU backend"
V2_RUNNER = "it requires vLLM's V2 model runner, which is not the default on CPU"
V2_RUNNER_IN_TRITON = "it requires vLLM's V2 model runner, which requires Triton, which has no CPU backend"
INKLING = "its renderer looks up special tokens that come with the checkpoint's tokenizer"

REASONS: dict[str, str] = {
    "DeepseekV32ForCausalLM": SPARSE,
    "GlmMoeDsaForCausalLM": SPARSE,
    "Glm5NextForCausalLM": SPARSE,
    "Glm5NextForConditionalGeneration": SPARSE,
    "MiniMaxM3SparseForCausalLM": FLASHINFER,
    "MiniMaxM3SparseForConditionalGeneration": FLASHINFER,
    "DeepseekV4ForCausalLM": "its attention prepares its batches in Triton, which has no CPU backend",
    "DeepseekV4ForConditionalGeneration": "vLLM has no implementation of it for CPU",
    "DeepseekV41ForCausalLM": "its attention needs a CUDA device",
    "Dots3NoteForCausalLM": "its import needs flash-attention, which is for GPUs",
    "AliceAIForCausalLM": "its residual connections are written in Triton, which has no CPU backend",
    "BeamForCausalLM": TRITON_NORMS,
    "MuseSparkForConditionalGeneration": TRITON_NORMS + "; its experts are those of flashinfer, which is for GPUs",
    "Qwen4ExpForCausalLM": TRITON_NORMS,
    "Qwen4ExpForConditionalGeneration": TRITON_NORMS,
    "FlintForCausalLM": "its attention is that of flashinfer, which is for GPUs",
    "Step5ForCausalLM": V2_RUNNER_IN_TRITON,
    "Step5ForConditionalGeneration": V2_RUNNER_IN_TRITON,
    "Ernie4_5_VLMoeForConditionalGeneration": "a fault of vLLM 0.32: its rotary embedding does not take the arguments "
    "that it is called with on CPU",
    "KananaVForConditionalGeneration": "its projector is made of timm's layers, and timm does not import "
    "beside a CPU torch",
    "UnlimitedOCRForCausalLM": "vLLM sets FlashAttention for its vision tower, and has none on CPU",
    "LongcatFlashNgramForCausalLM": V2_RUNNER,
    "LongcatFlashForCausalLM": "its expert router needs a CUDA kernel (topk_softmax)",
    "InklingForCausalLM": INKLING,
    "InklingForConditionalGeneration": INKLING,
    "KimiLinearForCausalLM": "its linear attention is written in Triton, which has no CPU backend",
    "OlmoHybridForCausalLM": "its linear attention is written in Triton, which has no CPU backend",
    "Rnj1ForCausalLM": "it passes its attention an option that the CPU backend does not have (chunk_lookback)",
    "Step1ForCausalLM": "its attention (square-root ALiBi) is not supported by the CPU backend",
    "BailingMoeV2_5ForCausalLM": HYBRID_MLA,
    "BailingMoeV3ForCausalLM": HYBRID_MLA,
    "BailingMoeV3VLForConditionalGeneration": HYBRID_MLA,
    "MambaForCausalLM": NO_SCAN,
    "FalconMambaForCausalLM": NO_SCAN,
    "JambaForCausalLM": "with attention layers only: vLLM has no CPU kernel for its selective scan",
    **dict.fromkeys(
        (
            "InternS2PreviewForConditionalGeneration",
            "InternS2MobiusForConditionalGeneration",
            "MiniCPMV4_6ForConditionalGeneration",
            "MiniCPMV4_7ForConditionalGeneration",
            "MiniCPMOcrForConditionalGeneration",
            "Qwen3_5ForConditionalGeneration",
        ),
        ATTENTION_ONLY,
    ),
    "Qwen3_5MoeForConditionalGeneration": ATTENTION_ONLY,
    "InternS1ProForConditionalGeneration": "a fault of vLLM 0.32: it reads self.model_config, which it never sets",
    "DiffusionGemmaForBlockDiffusion": "vLLM has diffusion in Model Runner V2 only, which is not the default on CPU; "
    "where it starts, a PRM of it is refused",
    "Gemma3nForConditionalGeneration": "even a prompt of text needs its image and audio processors, whose files come "
    "with the checkpoint (without them: 'inputs_embeds is required on the first PP rank')",
    "MiDashengLMModel": "torchaudio makes its audio front end when the model is built, and does not import beside "
    "a CPU torch",
    "MoonshotKimiaForCausalLM": "its tokenizer (tiktoken.model) comes with the checkpoint",
    **dict.fromkeys(
        ("KimiK3ForConditionalGeneration", "Ovis2_5", "Ovis2_6ForCausalLM", "Ovis2_6_MoeForCausalLM"),
        "its image processor's files come with the checkpoint's own code",
    ),
    "OpenPanguVLForConditionalGeneration": "vLLM gives its vision tower no attention on CPU (TORCH_SDPA is refused)",
    "Phi4MMForCausalLM": "its configuration class and speech encoder come with the checkpoint's own code",
    "KimiK25ForConditionalGeneration": "its image processor's files come with the checkpoint's own code",
    "Qwen3NextForCausalLM": ATTENTION_ONLY,
    "Qwen3_5ForCausalLM": ATTENTION_ONLY,
    "Qwen3_5MoeForCausalLM": ATTENTION_ONLY,
}
