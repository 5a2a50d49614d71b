"""What each PRM's own inference code reads, as plain functions over token ids, written from the recipe's source.

An oracle takes (question, steps, tokenizer) and gives one Read for each step: the tokens up to and including the one
whose logits are read (a causal model sees no others), the columns of the softmax in the source's order, and which of
them counts as good. Oracles trust their tags, as the sources do: give them texts that hold none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Read:
    seen: tuple[int, ...]
    columns: tuple[int, ...]
    good: int  # index into columns


Oracle = Callable[[str, Sequence[str], Any], list[Read]]


def _at(ids: Sequence[int], positions: Sequence[int], columns: Sequence[int], good: int) -> list[Read]:
    return [Read(tuple(ids[: at + 1]), tuple(columns), good) for at in positions]


def _where(ids: Sequence[int], tag: int) -> list[int]:
    return [index for index, id_ in enumerate(ids) if id_ == tag]


def math_shepherd(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """Model card: f"{question} {output}", scores where the id is encode("ки")[-1], softmax over "+ -", the first."""
    output = "\n".join(f"Step {k}: {step} ки" for k, step in enumerate(steps, 1))
    ids = tokenizer.encode(f"{question} {output}")
    columns = tokenizer.encode("+ -")[1:]
    return _at(ids, _where(ids, tokenizer.encode("ки")[-1]), columns, 0)


def math_psa(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """OpenR's _qwen_math_infer_fn, on the text that VersaPRM's evaluation writes for it."""
    text = f"{question} " + "".join(f"Step {k}: {step} \n\n\n\n\n " for k, step in enumerate(steps, 1))
    ids = tokenizer.encode(text)
    (tag,) = tokenizer.encode(" \n\n\n\n\n")
    return _at(ids, _where(ids, tag), tokenizer.encode(" + -"), 0)


def _prm800k(tag: int) -> Oracle:
    def oracle(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
        """VersaPRM's get_rewards_reasoning_step.py and prm_llama.py / prm_qwen.py: candidates [12, 10], the second."""
        text = f"{question.strip()} \n\n" + "".join(f"{step.strip()} \n\n\n\n" for step in steps)
        ids = tokenizer.encode(text)
        return _at(ids, _where(ids, tag), (12, 10), 1)

    return oracle


def er_prm(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """evaluate_math_reward_model.py: the newline after each tag taken away, ids of " ки", " +", " -" [-1]."""
    answer = "".join(f"Step {k}: {step} ки\n" for k, step in enumerate(steps, 1))
    ids = tokenizer.encode(f"{question} {answer}".replace(" ки\n", " ки"))
    tag, plus, minus = (tokenizer.encode(text)[-1] for text in (" ки", " +", " -"))
    return _at(ids, _where(ids, tag), (plus, minus), 0)


def rlhflow(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """prm_evaluate.py: one forward for each step, over the conversation so far, read at its third last token."""
    conversation, reads = [], []
    columns = (tokenizer.encode("+")[-1], tokenizer.encode("-")[-1])
    for k, step in enumerate(steps):
        conversation.append({"role": "user", "content": f"{question} {step.strip()}" if k == 0 else step.strip()})
        conversation.append({"role": "assistant", "content": "+"})
        ids = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
        reads += _at(ids, [len(ids) - 3], columns, 0)
    return reads


INTERN = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"


def visualprm(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """generate_steps_with_soft_score: one forward for each step, read at the last token; earlier answers are "+"."""
    reads, history = [], f"<|im_start|>system\n{INTERN}<|im_end|>\n"
    columns = tuple(tokenizer.convert_tokens_to_ids(piece) for piece in ("+", "-"))
    for k, step in enumerate(steps):
        asked = f"### Question:\n{question}\n\n### Solution Process:\n{step}" if k == 0 else step
        query = f"{history}<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer(query)["input_ids"]
        reads += _at(ids, [len(ids) - 1], columns, 0)
        history = f"{query}+<|im_end|>\n"
    return reads


def qwen_prm(system: str | None) -> Oracle:
    def oracle(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
        """Model card: steps joined by <extra_0> and one after the last; two classes, the second good."""
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"})
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        ids = tokenizer.encode(text)
        return _at(ids, _where(ids, tokenizer.encode("<extra_0>")[0]), (0, 1), 1)

    return oracle


def skywork(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """prepare_input of io_utils.py: flags on the newline after each step, none on the one after the problem."""
    ids = tokenizer.encode(tokenizer.bos_token + question + "\n")
    newline = tokenizer.encode("\n")[-1]
    flagged = []
    for step in steps:
        ids = [*ids, *tokenizer.encode(step), newline]
        flagged.append(len(ids) - 1)
    return _at(ids, flagged, (0,), 0)


JUDGE = (
    "You are a Math Teacher. Given a question and a student's solution, evaluate the mathemetical correctness, logic "
    "consistency of the current step and whether it will lead to the correct final solution"
)
CRITIC = (
    "You are a math teacher. Your task is to review and critique the paragraphs in solution directly. Output your "
    "judgement in the format of `\\boxed{Yes}` if the paragraph is correct, or `\\boxed{No}` if the paragraph is "
    "incorrect."
)


def pathfinder(question: str, steps: Sequence[str], tokenizer: Any, tail: str, index: int) -> list[Read]:
    """PathFinderPRM.inference_single's shifted mask for one step; `tail`: the judgements so far and the ones asked."""
    before = "\n\n".join(steps[:index]) + "\n\n" if index else ""
    messages = [
        {"role": "user", "content": JUDGE + "\n\n Question: " + question},
        {"role": "assistant", "content": before + "Current Step: " + steps[index] + tail},
    ]
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    mask = [id_ == tokenizer.encode("<extra>")[0] for id_ in ids]
    shifted = [index for index, masked in enumerate([*mask[1:], False]) if masked]
    return _at(ids, shifted, (tokenizer.encode("<+>")[0], tokenizer.encode("<->")[0]), 0)


def genprm(question: str, steps: Sequence[str], tokenizer: Any, answers: Sequence[str]) -> list[Read]:
    """processbench.py without analyze and verify; `answers`: the judgement of each step before the last one given.

    The model goes on from `$\\boxed` with "{" and then the judgement, which is read where "{" is the newest token.
    """
    start = "<output>\n**Judgement**: $\\boxed"
    messages = [{"role": "system", "content": CRITIC}]
    for k, step in enumerate(steps):
        messages.append({"role": "user", "content": question + "\n" + step if k == 0 else step})
        if k < len(answers):
            messages.append({"role": "assistant", "content": start + "{" + answers[k] + "}$\n</output>\n"})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = [*tokenizer.encode(text + start), tokenizer.encode("{")[-1]]
    return _at(ids, [len(ids) - 1], (tokenizer.encode("Yes")[-1], tokenizer.encode("No")[-1]), 0)


BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

# Recipes whose prompt is known at once. The other two are driven pass by pass in tests/unit/test_prompts_passes.py.
ONE_PROMPT: dict[str, Oracle] = {
    "math-shepherd": math_shepherd,
    "openrlhf": math_shepherd,
    "math-psa": math_psa,
    "versaprm": _prm800k(23535),
    "llama-prm800k": _prm800k(23535),
    "qwen-prm800k": _prm800k(22701),
    "er-prm": er_prm,
    "rlhflow-deepseek": rlhflow,
    "rlhflow-mistral": rlhflow,
    "visualprm": visualprm,
    "qwen2.5-math-prm": qwen_prm(BOXED),
    "reasonflux-prm": qwen_prm(None),
    "skywork-o1-prm": skywork,
}
