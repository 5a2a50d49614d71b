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
    parts: tuple[float, ...] = ()  # how much each column counts, where it is not the good one alone

    @property
    def weights(self) -> tuple[float, ...]:
        return self.parts or tuple(float(index == self.good) for index in range(len(self.columns)))


Oracle = Callable[[str, Sequence[str], Any], list[Read]]


def _at(
    ids: Sequence[int], positions: Sequence[int], columns: Sequence[int], good: int, parts: tuple[float, ...] = ()
) -> list[Read]:
    return [Read(tuple(ids[: at + 1]), tuple(columns), good, parts) for at in positions]


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


def granite(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """The card's prepare_input and get_step_ids: before each "Y" that stands behind the assistant's header.

    The one column is that of a softmax over the whole vocabulary.
    """
    asked, messages = "Is this response correct so far (Y/N)?", []
    for index, step in enumerate(steps):
        content = f"{question} {step} {asked}" if index == 0 else f"{step} {asked}"
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": "Y"}]
    ids = tokenizer.encode(tokenizer.apply_chat_template(messages, add_generation_prompt=False, tokenize=False))
    (yes,) = tokenizer.encode("Y", add_special_tokens=False)
    turn = tokenizer("<|start_of_role|>assistant<|end_of_role|>Y<|end_of_text|>", add_special_tokens=False)["input_ids"]
    header = turn[: turn.index(yes)]
    answers = [at for at in _where(ids, yes) if ids[at - len(header) : at] == header]
    return [Read(tuple(ids[:at]), (yes,), 0) for at in answers]


def trl(separator: str) -> Oracle:
    def oracle(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
        """PRMTrainer.tokenize_row: the label of each completion at the last token of the separator behind it."""
        ids = tokenizer(question, add_special_tokens=False)["input_ids"]
        if tokenizer.bos_token_id is not None:
            ids = [tokenizer.bos_token_id, *ids]
        labelled = []
        for step in steps:
            ids = ids + tokenizer(step, add_special_tokens=False)["input_ids"]
            ids = ids + tokenizer.encode(separator, add_special_tokens=False)
            labelled.append(len(ids) - 1)
        return _at(ids, labelled, (0, 1), 1)

    return oracle


def pure(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """The card's snippet: question and steps tokenized apart, a newline's token behind each, probs[1] - probs[0]."""
    ids = tokenizer(question, add_special_tokens=False)["input_ids"]
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    score_ids = []
    for step in steps:
        ids = ids + tokenizer(step, add_special_tokens=False)["input_ids"] + newline
        score_ids.append(len(ids) - 1)
    return _at(ids, score_ids, (0, 1), 1, (-1.0, 1.0))


def math_minos(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """PRMBench's mathminos_mistral.py: one logit where the id is encode("и")[-1]."""
    solution = "".join(f"Step {k}: {step} и\n" for k, step in enumerate(steps, 1))
    ids = tokenizer.encode(f"Human: {question}\n\nAssistant:{solution}")
    return _at(ids, _where(ids, tokenizer.encode("и")[-1]), (0,), 0)


def reasoneval(size: str, parts: tuple[float, ...]) -> Oracle:
    def oracle(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
        """examples.py: pad tokens between the parts, taken out again. 7B's pad token is BOS, 34B's another one."""
        pad = tokenizer.bos_token if size == "7B" else tokenizer.eos_token
        text = f"Question:\n{question}\nAnswer:\nLet's think step by step.\n" + pad
        separated = tokenizer(text + "".join(step + pad for step in steps))["input_ids"]
        separator, labelled, ids = tokenizer(pad)["input_ids"][-1], [], []
        for index, id_ in enumerate(separated):
            if id_ == separator:
                labelled.append(index - 1 - (index - len(ids)))
            else:
                ids.append(id_)
        if size == "7B":
            ids, labelled = [1, *ids], labelled[2:]
        else:
            labelled = labelled[1:]
        return _at(ids, labelled, (0, 1, 2), 2, parts)

    return oracle


def pqm(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """bon_eval_hf.py: the value at each [PRM] of query + newline + answer, without special tokens."""
    query = (
        "Below is an instruction that describes a task.\nWrite a response that appropriately completes the request."
        f"\n\n### Instruction:\n{question}\n\n### Response: Let's think step by step"
    )
    answer = " [PRM]\n".join(f"Step {k}: {step.strip()}" for k, step in enumerate(steps, 1)) + " [PRM]"
    ids = tokenizer.encode(f"{query}\n{answer}", add_special_tokens=False)
    return _at(ids, _where(ids, tokenizer.encode("[PRM]", add_special_tokens=False)[-1]), (0,), 0)


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
JUDGE_RUBRIC = (
    "You check the solution of a problem, one step at a time. A step is correct if what it says is true and follows "
    "from the problem and the steps before it, and if what it computes is right."
)
JUDGE_ASKS = "\n\nIs this step correct? Answer with one word, Yes or No."


def judge(question: str, steps: Sequence[str], tokenizer: Any, rubric: str = JUDGE_RUBRIC) -> list[Read]:
    """A conversation per step, rendered by itself: a plain loop over a chat API, the steps before answered with Yes."""
    messages, reads = [], []
    columns = tuple(tokenizer.convert_tokens_to_ids(["Yes", "No"]))
    for k, step in enumerate(steps, 1):
        opening = f"{rubric}\n\nProblem: {question}\n\n" if k == 1 else ""
        messages.append({"role": "user", "content": f"{opening}Step {k}: {step.strip()}{JUDGE_ASKS}"})
        reads.append(_answered(messages, tokenizer, columns))
        messages.append({"role": "assistant", "content": "Yes"})
    return reads


def judge_per_step(question: str, steps: Sequence[str], tokenizer: Any) -> list[Read]:
    """A conversation per step that has one turn."""
    columns = tuple(tokenizer.convert_tokens_to_ids(["Yes", "No"]))
    reads = []
    for k in range(1, len(steps) + 1):
        solution = "\n\n".join(f"Step {j}: {step.strip()}" for j, step in enumerate(steps[:k], 1))
        content = f"{JUDGE_RUBRIC}\n\nProblem: {question}\n\n{solution}{JUDGE_ASKS}"
        reads.append(_answered([{"role": "user", "content": content}], tokenizer, columns))
    return reads


def _answered(messages: Sequence[Any], tokenizer: Any, columns: tuple[int, ...]) -> Read:
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, tokenize=True, enable_thinking=False
    )
    return Read(tuple(ids), columns, 0)


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
    "granite-3.3-prm": granite,
    "skywork-o1-prm": skywork,
    "trl-prm": trl("\n"),
    "trl-prm800k": trl("\n\n"),
    "pure-prm": pure,
    "math-minos": math_minos,
    "reasoneval": reasoneval("7B", (0.0, 1.0, 1.0)),
    "reasoneval-34b": reasoneval("34B", (0.0, 1.0, 1.0)),
    "reasoneval-redundancy": reasoneval("7B", (1.0, 0.0, 1.0)),
    "pqm": pqm,
    "judge": judge,
}
