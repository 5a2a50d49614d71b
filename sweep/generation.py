"""The step scores of a small engine against a generation engine with the same weights, which knows nothing of us.

The generation engine gives the log-probability of every vocabulary entry after each prompt token, from the code path
that samples text. Renormalised over the scoring tokens alone, these are the softmax of the scoring tokens' logits,
which is what the PRM engine answers at a step tag. No code of ours runs on the generation side.
"""

from __future__ import annotations

from typing import Any

import torch

from sweep.rows import Row
from sweep.small_engine import SCORING, TAG, encode, engine, nontrivial_weights, prompts

LIMIT = 1e-4  # of a probability: the generation engine's went through a log-softmax over the whole vocabulary


def compare(folder: str, dtype: str, options: dict[str, Any]) -> Row:
    """Run the checkpoint in `folder` in both engines; its row, with "why" if the difference is above allowed().

    "difference" is the largest difference of a probability between the two, over every step of the prompts, each
    prompt run alone. "generation_batch_difference" is of the generation engine alone: what its own probabilities move
    by when the prompts run together.
    """
    nontrivial_weights()
    with engine(folder, dtype, options) as llm:
        scored = torch.cat([encode(llm, [ids], activated=True)[0] for ids in prompts()])
    generation = {"runner": "generate", "convert": "none", "pooler_config": None, "max_logprobs": -1}
    with engine(folder, dtype, {**options, **generation}) as llm:
        generated = torch.cat([_probabilities(llm, [ids]) for ids in prompts()])
        in_a_batch = _probabilities(llm, prompts())
    if scored.shape != generated.shape:
        raise RuntimeError(f"{list(scored.shape)} scores, the generation engine has {list(generated.shape)}")
    row = {
        "steps": len(scored),
        "spread": round(generated.std(0).mean().item(), 4),
        "difference": (scored - generated).abs().max().item(),
        "generation_batch_difference": (in_a_batch - generated).abs().max().item(),
    }
    if not row["difference"] <= allowed(row):  # "not <=": a difference of NaN fails as well
        return {**row, "outcome": "failed", "why": f"difference {row['difference']:.2g}, allowed {allowed(row):.2g}"}
    return {**row, "outcome": "verified"}


def allowed(row: Row) -> float:
    """The limit of a row's difference: LIMIT, or what vLLM's own kernels move by where that is more."""
    return max(LIMIT, row.get("generation_batch_difference", 0.0))


def _probabilities(llm: Any, batch: list[list[int]]) -> torch.Tensor:
    """[steps, scoring tokens]: the next token's distribution after each tag, over the scoring tokens alone."""
    from vllm import SamplingParams

    # One more token at the end: vLLM gives logprobs of prompt tokens, and those after the last tag are of the next.
    prompts_and_next = [{"prompt_token_ids": [*ids, 150]} for ids in batch]
    params = SamplingParams(max_tokens=1, prompt_logprobs=-1, detokenize=False)
    rows = []
    for ids, output in zip(batch, llm.generate(prompts_and_next, params, use_tqdm=False), strict=True):
        after_tags = [output.prompt_logprobs[i + 1] for i, id_ in enumerate(ids) if id_ == TAG]
        rows += [[logprobs[token].logprob for token in SCORING] for logprobs in after_tags]
    return torch.tensor(rows).softmax(-1)
