"""PRMs that vLLM runs with their head: scoring tokens are columns of its output, not vocabulary entries."""

from typing import Any

_QWEN: dict[str, Any] = {
    "step_tag": {"piece": "<extra_0>", "id": 151651},
    "head": "own",
    "scoring_tokens": {"bad": {"id": 0, "weight": 0.0}, "good": {"id": 1, "weight": 1.0}},
    # Zhang et al. 2025 (arXiv 2501.07301), section 3.2.4: the product for step labels made by people or judges.
    "aggregation": "product",
}
_QWEN_PROMPT = {"kind": "chat", "question": "{question}", "tag": "<extra_0>", "separator": "", "strip": "none"}

RECIPES: dict[str, dict[str, Any]] = {
    "qwen2.5-math-prm": {
        **_QWEN,
        "prompt": {
            **_QWEN_PROMPT,
            "system": "Please reason step by step, and put your final answer within \\boxed{}.",
        },
        # The card of Qwen2.5-Math-7B-PRM800K; the other two did not learn from ratings that know neutral steps.
        "neutral": "good",
        "source": "https://huggingface.co/Qwen/Qwen2.5-Math-PRM-7B",
        "models": ["Qwen2.5-Math-PRM-7B", "Qwen2.5-Math-PRM-72B", "Qwen2.5-Math-7B-PRM800K"],
    },
    "reasonflux-prm": {
        **_QWEN,
        "prompt": _QWEN_PROMPT,
        "source": "https://github.com/Gen-Verse/ReasonFlux/blob/main/ReasonFlux_PRM/README.md",
        "models": ["ReasonFlux-PRM-7B"],
    },
}
