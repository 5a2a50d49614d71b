"""The step scores of a small engine against the same model's whole head.

The reference does not go through the pooler: a hook keeps every row of hidden states that the pooler was given, the
full `compute_logits` runs on the rows of the step tags afterwards, and the scoring columns are picked from it.
"""

from __future__ import annotations

from typing import Any

import torch

from sweep.rows import Row
from sweep.small_engine import SCORING, TAG, encode, engine, nontrivial_weights, prompts

LIMIT = {"float32": 1e-5, "bfloat16": 5e-3}  # of a difference, by the engine's dtype
SPREAD = 0.1  # logits must differ by more than this, across tags and across tokens, or an error could hide


def score(folder: str, dtype: str, options: dict[str, Any]) -> Row:
    """Run the checkpoint in `folder`; its row, with "why" if a difference is above LIMIT[dtype]."""
    nontrivial_weights()
    with engine(folder, dtype, options) as llm:
        hidden_rows: list[torch.Tensor] = []

        def keep_rows(_: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            hidden_rows.append((args[0] if args else kwargs["hidden_states"]).clone())

        (hook,) = llm.apply_model(lambda model: model.pooler.register_forward_pre_hook(keep_rows, with_kwargs=True))
        probabilities, logits, whole = [], [], []
        for ids in prompts():
            hidden_rows.clear()
            probabilities += encode(llm, [ids], activated=True)
            hidden = torch.cat(hidden_rows)[[i for i, id_ in enumerate(ids) if id_ == TAG]]
            whole += llm.apply_model(lambda model, hidden=hidden: model.compute_logits(hidden).float())
            logits += encode(llm, [ids], activated=False)
        hook.remove()
        in_a_batch = encode(llm, prompts(), activated=True)
        (head,) = llm.apply_model(lambda model: model.pooler.head.whole_because or "columns")
    columns = torch.cat(whole)[:, list(SCORING)]
    differences = {
        "head": head,
        "spread": min(columns.std(0).mean().item(), columns.std(1).mean().item()),
        "difference": _difference(probabilities, columns.softmax(-1)),
        "logit_difference": _difference(logits, columns),
        "batch_difference": _difference(in_a_batch, columns.softmax(-1)),
    }
    return {**differences, **_verdict(differences, LIMIT[dtype])}


def _difference(by_prompt: list[torch.Tensor], expected: torch.Tensor) -> float:
    scores = torch.cat(by_prompt)
    if scores.shape != expected.shape:
        raise RuntimeError(f"{list(scores.shape)} scores came back, expected {list(expected.shape)}")
    return (scores - expected).abs().max().item()


def _verdict(differences: dict[str, Any], limit: float) -> dict[str, str]:
    if not differences["spread"] > SPREAD:  # "not >": a spread of NaN fails as well
        why = f"its logits differ by {differences['spread']:.2g}, too little to show an error"
        return {"outcome": "failed", "why": why}
    for name in ("difference", "logit_difference"):
        if not differences[name] <= limit:
            return {"outcome": "failed", "why": f"{name} {differences[name]:.2g}, allowed {limit:.0e}"}
    return {"outcome": "verified"}
