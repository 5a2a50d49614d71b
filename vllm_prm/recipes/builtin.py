"""The known process reward models, each with the source of its facts."""

from __future__ import annotations

from typing import Any

BUILT_IN: dict[str, dict[str, Any]] = {
    "math-shepherd": {
        # Ids: model card of peiyi9979/math-shepherd-mistral-7b-prm, and Mistral v1's sentencepiece model.
        "step_tag": {"piece": "▁ки", "id": 12902},
        "scoring_tokens": {
            "good": {"piece": "▁+", "id": 648, "weight": 1.0},
            "bad": {"piece": "▁-", "id": 387, "weight": 0.0},
        },
        "probe": {"text": "+ - ки", "ids": [1, 648, 387, 12902]},
        "source": "https://huggingface.co/peiyi9979/math-shepherd-mistral-7b-prm",
        "models": ["math-shepherd-mistral-7b-prm"],
    },
    "lets-verify": {
        # Lightman et al. 2023, section 2.6: one of three tokens after each step, "neutral" counted as positive.
        "step_tag": "",
        "scoring_tokens": {
            "good": {"piece": "", "weight": 1.0},
            "neutral": {"piece": "", "weight": 1.0},
            "bad": {"piece": "", "weight": 0.0},
        },
        "source": "https://arxiv.org/abs/2305.20050",
    },
}
