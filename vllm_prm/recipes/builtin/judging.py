"""Models that were not trained to score steps, and are asked: any instruct model."""

from typing import Any

# What an answer may look like, the likeliest form first. A template that trims its turns or ends an opening in white
# space is answered without a leading space.
_YES, _NO = ["Yes", " Yes", "yes", " yes", "YES"], ["No", " No", "no", " no", "NO"]

RECIPES: dict[str, dict[str, Any]] = {
    "judge": {
        # The two-way question and its softmax are LLM-as-a-judge's usual form (Zheng et al. 2023), asked of each step
        # as Granite's PRM asks; the wording is ours, and everybody's to change.
        "step_tag": [],
        "scoring_tokens": {"yes": {"words": _YES, "weight": 1.0}, "no": {"words": _NO, "weight": 0.0}},
        "answer_mass": True,
        "prompt": {
            "kind": "judge",
            "rubric": "You check the solution of a problem, one step at a time. A step is correct if what it says is "
            "true and follows from the problem and the steps before it, and if what it computes is right.",
            "question": "{rubric}\n\nProblem: {question}\n\n",
            "step": "Step {k}: {step}\n\nIs this step correct? Answer with one word, Yes or No.",
            "separator": "\n\n",
        },
        "aggregation": "min",
        "source": "https://arxiv.org/abs/2306.05685",
    },
}
