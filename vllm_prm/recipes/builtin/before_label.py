"""PRMs that write their verdict as a token: they are read at the position before it."""

from typing import Any

_RLHFLOW: dict[str, Any] = {
    # The assistant's header and its "+" (Llama 3's ids); the label is predicted at the header's last token. A "+" that
    # a step holds does not follow that header.
    "step_tag": {
        "piece": ["<|start_header_id|>", "assistant", "<|end_header_id|>", "ĊĊ", "+"],
        "id": [128006, 78191, 128007, 271, 10],
    },
    "offset": -1,
    "scoring_tokens": {"good": {"piece": "+", "id": 10, "weight": 1.0}, "bad": {"piece": "-", "id": 12, "weight": 0.0}},
    "aggregation": "mean",
    "source": "https://github.com/RLHFlow/RLHF-Reward-Modeling/blob/main/math-rm/prm_evaluate.py",
}

RECIPES: dict[str, dict[str, Any]] = {
    "rlhflow-deepseek": {
        **_RLHFLOW,
        "prompt": {"kind": "turns", "question": "{question} ", "tag": "+", "split": ["\n\n"]},
        "models": ["Llama3.1-8B-PRM-Deepseek-Data"],
    },
    "rlhflow-mistral": {
        **_RLHFLOW,
        "prompt": {"kind": "turns", "question": "{question} ", "tag": "+", "split": ["ки\n", "\n\n", "\n"]},
        "models": ["Llama3.1-8B-PRM-Mistral-Data"],
    },
    "granite-3.3-prm": {
        # The card's own example gives, in the order of its eight steps, 1.0, 1.0, 1.0, 0.9961, 0.9922, 0.0850, 0.4082
        # and 0.8516 (bfloat16; the adapter's card 0.9999, 0.9997, 0.9992, 0.9993, 0.9996, 0.5195, 0.9416, 0.9943). The
        # tag's tokens are those that its tokenizer makes of this text, as the card looks for them.
        "step_tag": {"text": "<|start_of_role|>assistant<|end_of_role|>Y"},
        "offset": -1,
        "activation": "full_softmax",
        "scoring_tokens": {"good": {"piece": "Y", "weight": 1.0}},
        "prompt": {
            "kind": "turns",
            "question": "{question} ",
            "step": "{step} Is this response correct so far (Y/N)?",
            "tag": "Y",
            "strip": "none",
            "split": ["\n\n"],
        },
        "aggregation": "min",
        "source": "https://huggingface.co/ibm-granite/granite-3.3-8b-math-prm-v2",
        "models": ["granite-3.3-8b-math-prm-v2", "granite-3.3-8b-lora-math-prm"],
    },
    "visualprm": {
        # What the source's generate_steps_with_soft_score_v2 writes by its own template (internvl2_5), which the
        # model's tokenizer need not have; vLLM puts "<image>\n" before the question, as the source does. Only pieces
        # are established, no ids. The source cuts a solution at blank lines; its callers join steps to 12 at most.
        "step_tag": "+",
        "offset": -1,
        "scoring_tokens": {"good": {"piece": "+", "weight": 1.0}, "bad": {"piece": "-", "weight": 0.0}},
        "architecture": "InternVLChatModel",  # the source's own class adds methods to it, and no weights
        "prompt": {
            "kind": "raw",
            "question": "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、"
            "清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\n"
            "<|im_start|>user\n### Question:\n{question}\n\n### Solution Process:\n",
            "step": "{step}<|im_end|>\n<|im_start|>assistant\n",
            "tag": "+",
            "separator": "<|im_end|>\n<|im_start|>user\n",
            "strip": "none",
            "split": ["\n\n"],
        },
        "aggregation": "mean",
        "source": "https://huggingface.co/OpenGVLab/VisualPRM-8B/blob/main/modeling_internvl_chat.py",
        "models": ["VisualPRM-8B"],
    },
    "pathfinder": {
        # Ids are not in the source: the three tokens were added to Qwen 2.5's vocabulary.
        "step_tag": "<extra>",
        "offset": -1,
        "scoring_tokens": {"good": {"piece": "<+>", "weight": 1.0}, "bad": {"piece": "<->", "weight": 0.0}},
        "prompt": {
            "kind": "passes",
            # Spelt as in the source's own inference ("mathemetical"); its training script spells it right.
            "question": "You are a Math Teacher. Given a question and a student's solution, evaluate the mathemetical "
            "correctness, logic consistency of the current step and whether it will lead to the correct final solution"
            "\n\n Question: {question}",
            "step": "Current Step: {step}",
            "tag": "<extra>",
            "separator": "\n\n",
            "passes": [" Math reasoning: {tag}, Consistency: {tag}", ", Correctness: {tag}"],
            "strip": "none",
        },
        "aggregation": "min",
        "source": "https://github.com/declare-lab/PathFinder-PRM/tree/main/src/evaluation",
        "models": ["PathFinder-PRM-7B"],
    },
    "genprm": {
        # The judgement without the reasoning before it (the source's settings analyze and verify off): it goes on from
        # `$\boxed`, so its first token is "{" and its second the answer.
        "step_tag": {"piece": ["boxed", "{"], "id": [79075, 90]},
        "scoring_tokens": {
            "good": {"piece": "Yes", "id": 9454, "weight": 1.0},
            "bad": {"piece": "No", "id": 2753, "weight": 0.0},
        },
        "prompt": {
            "kind": "dialogue",
            "system": "You are a math teacher. Your task is to review and critique the paragraphs in solution "
            "directly. Output your judgement in the format of `\\boxed{Yes}` if the paragraph is correct, or "
            "`\\boxed{No}` if the paragraph is incorrect.",
            "question": "{question}\n",
            "tag": "<output>\n**Judgement**: $\\boxed{",
            "answer": "}$\n</output>\n",
            "strip": "none",
        },
        "aggregation": "min",
        "source": "https://github.com/RyanLiu112/GenPRM/tree/main/src/prm_evaluation",
        "models": ["GenPRM-1.5B", "GenPRM-7B", "GenPRM-32B"],
    },
}
