"""The numbers of docs/numerics.md: step scores of vLLM against transformers, in float32 and bfloat16.

`python -m sweep.numerics`, about a minute. The reference is always transformers in float32 on the very weights that
the engine has (rounded to bfloat16 where the engine computes in it), so the differences are those of arithmetic, not of
rounded weights.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from sweep.environment import ENVIRONMENT

os.environ.update(ENVIRONMENT)
# Some virtual machines report AMX and do not allow it: bfloat16 may then end in an illegal instruction.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("float32", {}),
    "auto": ("auto", {}),  # the checkpoint says float32
    "bfloat16, head in float32 (default)": ("bfloat16", {}),
    "bfloat16, head in bfloat16": ("bfloat16", {"hf_overrides": {"head_dtype": "model"}}),
}


def main() -> None:
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from sweep.sizes import VOCABULARY
    from sweep.small_engine import SCORING, TAG, encode, engine, prompts
    from sweep.tokenizer import save_tokenizer

    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "sliding_window": None}
    config = MistralConfig(**sizes, **heads, initializer_range=0.05)
    model = MistralForCausalLM(config).eval()
    for weight in model.parameters():  # to what both dtypes hold exactly; model.to() would round the rotary buffers too
        weight.data = weight.data.bfloat16().float()

    def logits_at_tags() -> torch.Tensor:  # [steps, scoring tokens], of transformers' model as it is now
        with torch.no_grad():
            rows = [model(torch.tensor([ids])).logits[0][torch.tensor(ids) == TAG] for ids in prompts()]
        return torch.cat(rows)[:, list(SCORING)].float()

    reference = logits_at_tags()
    print(f"logits spread over {reference.std():.2f}; {len(reference)} steps, {len(SCORING)} scoring tokens")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for weight in model.parameters():
            weight.data = weight.data.bfloat16()
        _print("transformers, bfloat16", logits_at_tags(), reference)
        save_tokenizer(folder)
        for name, (dtype, options) in ENGINES.items():
            with engine(folder, dtype, {"load_format": "auto", **options}) as llm:
                logits = torch.cat(encode(llm, prompts(), activated=False))
                engine_dtype = str(llm.llm_engine.vllm_config.model_config.dtype).removeprefix("torch.")
            _print(f"vLLM, {name}" + (f" ({engine_dtype})" if dtype == "auto" else ""), logits, reference)


def _print(name: str, logits: Any, reference: Any) -> None:
    """A row of the table: the largest difference of a logit, the largest and the mean one of a score."""
    of_logits, scores = (logits - reference).abs(), (logits.softmax(-1) - reference.softmax(-1)).abs()
    print(f"| {name} | {of_logits.max():.1e} | {scores.max():.1e} | {scores.mean():.1e} |", flush=True)


if __name__ == "__main__":
    main()
