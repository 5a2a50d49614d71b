"""PRMs with a linear layer on the hidden states: scoring tokens are its columns.

The layer's name in the checkpoint is `score` or `classifier` (transformers' ...ForTokenClassification) unless a recipe
says otherwise.
"""

from typing import Any

_TRL: dict[str, Any] = {
    # TRL's PRMTrainer, tokenize_row: BOS if the tokenizer has one, the prompt, and each step followed by the separator,
    # all tokenized apart; the label, int(True) for a right step, at the separator's last token. The separator is an
    # option of the trainer that no file of the checkpoint keeps but its pickled arguments.
    "head": "linear",
    "scoring_tokens": {"bad": {"id": 0, "weight": 0.0}, "good": {"id": 1, "weight": 1.0}},
    "prompt": {"kind": "segments", "question": "{question}", "bos": "if any", "strip": "none"},
    "aggregation": "min",
    "source": "https://github.com/huggingface/trl/blob/v0.24.0/trl/trainer/prm_trainer.py",
}
_REASONEVAL: dict[str, Any] = {
    # The prompt is tokenized with pad tokens between question and steps, which are then taken out: every part has its
    # own tokens, and nothing marks where one ends. Classes: negative, neutral, positive.
    "step_tag": [],
    "head": "linear",
    "head_names": ["score_head"],
    "scoring_tokens": {
        "negative": {"id": 0, "weight": 0.0},
        "neutral": {"id": 1, "weight": 1.0},
        "positive": {"id": 2, "weight": 1.0},
    },
    "prompt": {
        "kind": "segments",
        "question": "Question:\n{question}\nAnswer:\nLet's think step by step.\n",
        "strip": "none",
        "split": ["\n"],
    },
    "aggregation": "min",
    "source": "https://github.com/GAIR-NLP/ReasonEval/blob/main/codes/examples.py",
}
_REASONEVAL_7B: dict[str, Any] = {
    **_REASONEVAL,
    "architecture": "MistralForCausalLM",  # its config.json names a class of the source's own
    # The source takes BOS out with the pad tokens (they are one token), counts where the steps end, and puts BOS back
    # in front: so it reads the token before a step's last one.
    "offset": -1,
}

RECIPES: dict[str, dict[str, Any]] = {
    "trl-prm": {
        **_TRL,
        "step_tag": {"text": "\n"},  # PRMConfig's default
        "models": ["Qwen2.5-0.5B-Math-Shepherd-PRM-0.2"],
    },
    "trl-prm800k": {
        # --step_separator "\n\n": search-and-learn's recipes/training, and the ProcessBench fork that measures them.
        # Trained on prm800k-trl-dedup, of which no source says what its neutral steps are: TRL's copy of PRM800K counts
        # them as wrong, the card of PURE, trained on the same set, as right.
        **_TRL,
        "step_tag": {"text": "\n\n"},
        "models": [
            "Qwen2.5-Math-7B-Instruct-PRM-0.1",
            "Qwen2.5-Math-7B-Instruct-PRM-0.2",
            "Qwen2.5-Math-1.5B-Instruct-PRM-0.2",
        ],
    },
    "pure-prm": {
        # The card: p(good) - p(bad), a step above 0 is right; no special tokens; PRM800K's labels 1 and 0 are positive.
        # PURE adds the rewards of a solution's steps up, weighted by softmax(-reward / 0.1), which it calls an
        # approximation of the minimum.
        **_TRL,
        "step_tag": {"piece": "Ċ", "id": 198},
        "scoring_tokens": {"bad": {"id": 0, "weight": -1.0}, "good": {"id": 1, "weight": 1.0}},
        "threshold": 0.0,
        "neutral": "good",
        "prompt": {
            "kind": "segments",
            "question": "{question}",
            "tag": "\n",
            "bos": "none",
            "strip": "none",
            "split": ["\n\n"],
        },
        "source": "https://huggingface.co/jinachris/PURE-PRM-7B",
        "models": ["PURE-PRM-7B"],
    },
    "math-minos": {
        # Prompt: PRMBench's mr_eval/models/mathminos_mistral.py, by which a step is right if its logit is above 0.
        # Token 839 and the loss (sigmoid): the source. Its authors publish no weights: no model is known by name.
        "step_tag": {"piece": "▁и", "id": 839},
        "head": "linear",
        "activation": "sigmoid",
        "scoring_tokens": {"good": {"id": 0, "weight": 1.0}},
        "prompt": {
            "kind": "raw",
            "question": "Human: {question}\n\nAssistant:",
            "step": "Step {k}: {step}",
            "tag": " и",
            "separator": "\n",
        },
        "probe": {"text": "+ - и", "ids": [1, 648, 387, 839]},
        "aggregation": "min",
        "source": "https://github.com/KbsdJames/MATH-Minos/blob/main/RM/process_reward_modeling_pointwise.py",
    },
    "reasoneval": {**_REASONEVAL_7B, "models": ["ReasonEval-7B"]},
    "reasoneval-34b": {**_REASONEVAL, "architecture": "LlamaForCausalLM", "models": ["ReasonEval-34B"]},
    "reasoneval-redundancy": {
        # 1 - redundancy, so that more is better here too; the least of a solution's steps is 1 - the source's maximum.
        # PRMBench calls a step redundant from 0.15 on (mr_eval/models/reasoneval.py).
        **_REASONEVAL_7B,
        "scoring_tokens": {
            "negative": {"id": 0, "weight": 1.0},
            "neutral": {"id": 1, "weight": 0.0},
            "positive": {"id": 2, "weight": 1.0},
        },
        "threshold": 0.85,
    },
    "pqm": {
        # Weights: v_head.summary.* beside pretrained_model.*, which bon_eval_hf.py loads strictly into the class of
        # value_model.py. Its ranking loss has no probabilities; the source takes the sigmoid where it needs votes, and
        # the sigmoid keeps the order that its own minimum of values has.
        "step_tag": "[PRM]",  # added to the tokenizer of the base model
        "head": "linear",
        "head_names": ["v_head.summary"],
        "activation": "sigmoid",
        "scoring_tokens": {"good": {"id": 0, "weight": 1.0}},
        "prompt": {
            "kind": "raw",
            "question": "Below is an instruction that describes a task.\nWrite a response that appropriately completes "
            "the request.\n\n### Instruction:\n{question}\n\n### Response: Let's think step by step\n",
            "step": "Step {k}: {step}",
            "tag": " [PRM]",
            "separator": "\n",
            "bos": "none",
        },
        "aggregation": "min",
        "source": "https://github.com/WindyLee0822/Process_Q_Model/blob/main/bon_eval_hf.py",
    },
    "skywork-o1-prm": {
        "step_tag": {"piece": "Ċ", "id": 198},  # a newline; also ends the question, where nothing is read
        "head": "linear",
        # TRL's AutoModelForCausalLMWithValueHead (v0.11, trl/models/modeling_value_head.py).
        "head_names": ["v_head.summary"],
        "architecture": "Qwen2ForCausalLM",  # its config.json says Qwen2ForPrmModel: Skywork's own class
        "activation": "sigmoid",
        "scoring_tokens": {"good": {"id": 0, "weight": 1.0}},
        "prompt": {"kind": "segments", "question": "{question}\n", "tag": "\n", "separator": "", "split": ["\n"]},
        "aggregation": "mean",
        "source": "https://github.com/SkyworkAI/skywork-o1-prm-inference/blob/main/model_utils/io_utils.py",
        "models": ["Skywork-o1-Open-PRM-Qwen-2.5-1.5B", "Skywork-o1-Open-PRM-Qwen-2.5-7B"],
    },
}
