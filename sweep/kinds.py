"""What models do between their last layer and their logits, with an architecture for each kind.

sweep/oracle.py measures these architectures; docs/architectures.md has a table of them.
"""

from __future__ import annotations

KINDS: dict[str, str] = {
    "LlamaForCausalLM": "plain matrix",
    "Lfm2ForCausalLM": "tied to the input embedding",
    "Plamo3ForCausalLM": "vocabulary padded in the model",
    "CohereForCausalLM": "input embedding as head, and a scale",
    "GraniteForCausalLM": "scale (divided)",
    "HyperCLOVAXForCausalLM": "scale (multiplied)",
    "FalconH1ForCausalLM": "scale, recurrent layers",
    "TeleFLMForCausalLM": "scale from muP",
    "DoryForCausalLM": "scale of each token",
    "Gemma3ForCausalLM": "soft cap",
    "Gemma2ForCausalLM": "input embedding as head, and a soft cap",
    "HYV4ForCausalLM": "soft cap outside the logits processor",
    "MuseGlimmerForCausalLM": "multiplier, then soft cap",
    "GPTJForCausalLM": "bias",
    "MiMoForCausalLM": "norm inside compute_logits",
    "Step3p5ForCausalLM": "norm inside compute_logits, mixture of experts",
    "InternLM2ForCausalLM": "head under another name",
    "ChatGLMModel": "head inside the transformer",
    "BailingMoeForCausalLM": "normalised head",
    "OPTForCausalLM": "projected head",
    "Mamba2ForCausalLM": "no attention",
    "LlavaForConditionalGeneration": "head of an inner language model",
    "Gemma4ForConditionalGeneration": "suppressed tokens",
}
