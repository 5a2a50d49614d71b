"""PRMs that are read at their step tag.

Llama 3 and Qwen 2.5 ids were checked against the vocabularies of llama-models 0.3.0 and dashscope 2.0.2 (both on PyPI),
Mistral v1's against mistral_common's.
"""

from typing import Any

# " \n\n\n\n" and " \n\n\n\n\n" as byte-level BPE spells them; each is one token in Llama 3 and in Qwen 2.5.
_FOUR_NEWLINES, _FIVE_NEWLINES = "ĠĊĊĊĊ", "ĠĊĊĊĊĊ"
_NUMBERED = {"kind": "raw", "question": "{question} ", "step": "Step {k}: {step}"}
_MISTRAL_PAIR = {
    "good": {"piece": "▁+", "id": 648, "weight": 1.0},
    "bad": {"piece": "▁-", "id": 387, "weight": 0.0},
}
# The source's order is "-", "+", and the score is the second.
_PLAIN_PAIR = {"bad": {"piece": "-", "id": 12, "weight": 0.0}, "good": {"piece": "+", "id": 10, "weight": 1.0}}
_PRM800K_PROMPT = {
    "kind": "raw",
    "question": "{question} \n\n",
    "tag": " \n\n\n\n",
    "separator": "",
    "strip": "all",
}
# Both are trained by VersaPRM's model_train/prm_datasets.py: right is a step "of type 1 (good) or 0 (okay)".
_PRM800K_NEUTRAL = "good"

RECIPES: dict[str, dict[str, Any]] = {
    "math-shepherd": {
        # Ids: model card of peiyi9979/math-shepherd-mistral-7b-prm, and Mistral v1's sentencepiece model.
        "step_tag": {"piece": "▁ки", "id": 12902},
        "scoring_tokens": _MISTRAL_PAIR,
        "probe": {"text": "+ - ки", "ids": [1, 648, 387, 12902]},
        "prompt": {**_NUMBERED, "tag": " ки", "separator": "\n"},
        "aggregation": "min",
        "source": "https://huggingface.co/peiyi9979/math-shepherd-mistral-7b-prm",
        "models": ["math-shepherd-mistral-7b-prm"],
    },
    "openrlhf": {
        # What OpenRLHF's train_prm makes of Math-Shepherd's data on Mistral: --placeholder_token ки,
        # --reward_tokens + -, the loss where the input is the placeholder. Another base model: name its pieces.
        "step_tag": {"piece": "▁ки", "id": 12902},
        "scoring_tokens": _MISTRAL_PAIR,
        "probe": {"text": "+ - ки", "ids": [1, 648, 387, 12902]},
        "prompt": {**_NUMBERED, "tag": " ки", "separator": "\n"},
        "aggregation": "min",
        "source": "https://github.com/OpenRLHF/OpenRLHF/pull/442",
        "models": ["Mistral-7b-PRM-Math-Shepherd"],
    },
    "math-psa": {
        # Ids: comments in the source. The released weights are a LoRA adapter for Qwen2.5-Math-7B-Instruct: merge it,
        # or serve it as one. Steps are numbered and a space stands between a tag and the next step.
        "step_tag": {"piece": _FIVE_NEWLINES, "id": 76325},
        "scoring_tokens": {
            "good": {"piece": "Ġ+", "id": 488, "weight": 1.0},
            "bad": {"piece": "Ġ-", "id": 481, "weight": 0.0},
        },
        "prompt": {**_NUMBERED, "tag": " \n\n\n\n\n", "separator": " "},
        "aggregation": "min",
        "source": "https://github.com/openreasoner/openr/blob/main/prm/infer_fns.py",
        "models": ["Math-psa"],
    },
    "versaprm": {
        "step_tag": {"piece": _FOUR_NEWLINES, "id": 23535},
        "scoring_tokens": _PLAIN_PAIR,
        "prompt": _PRM800K_PROMPT,
        "aggregation": "min",
        "source": "https://github.com/UW-Madison-Lee-Lab/VersaPRM/blob/main/evaluation/prm_models/prm_llama.py",
        "models": [
            "VersaPRM",
            "VersaPRM-Aug",
            "VersaPRM-Base-8B",
            "VersaPRM-Base-3B",
            "VersaPRM-Math-Subset",
            "VersaPRM-Small-Subset",
        ],
    },
    "llama-prm800k": {
        "step_tag": {"piece": _FOUR_NEWLINES, "id": 23535},
        "scoring_tokens": _PLAIN_PAIR,
        "prompt": _PRM800K_PROMPT,
        "aggregation": "min",
        "neutral": _PRM800K_NEUTRAL,
        "source": "https://github.com/UW-Madison-Lee-Lab/VersaPRM/blob/main/evaluation/prm_models/prm_llama.py",
        "models": ["Llama-PRM800K"],
    },
    "qwen-prm800k": {
        "step_tag": {"piece": _FOUR_NEWLINES, "id": 22701},
        "scoring_tokens": _PLAIN_PAIR,
        "prompt": _PRM800K_PROMPT,
        "aggregation": "min",
        "neutral": _PRM800K_NEUTRAL,
        "source": "https://github.com/UW-Madison-Lee-Lab/VersaPRM/blob/main/evaluation/prm_models/prm_qwen.py",
        "models": ["Qwen-PRM800K"],
    },
    "er-prm": {
        # The source takes the newline after a tag away, in training and in evaluation.
        "step_tag": {"piece": "ĠÐºÐ¸", "id": 116624},
        "scoring_tokens": {
            "good": {"piece": "Ġ+", "id": 489, "weight": 1.0},
            "bad": {"piece": "Ġ-", "id": 482, "weight": 0.0},
        },
        "prompt": {**_NUMBERED, "tag": " ки", "separator": ""},
        "aggregation": "min",
        "source": "https://github.com/hanningzhang/ER-PRM/blob/main/evaluation/evaluate_math_reward_model.py",
        "models": ["Llama3.1-Math-PRM"],
    },
    "lets-verify": {
        # Lightman et al. 2023, section 2.6: one of three tokens after each step, "neutral" counted as positive.
        "step_tag": "",
        "scoring_tokens": {
            "good": {"piece": "", "weight": 1.0},
            "neutral": {"piece": "", "weight": 1.0},
            "bad": {"piece": "", "weight": 0.0},
        },
        "aggregation": "product",
        "neutral": "good",
        "source": "https://arxiv.org/abs/2305.20050",
    },
}
