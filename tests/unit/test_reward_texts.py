"""The question in a prompt and the solution in a completion, as trainers write them."""

from __future__ import annotations

import pytest

from vllm_prm.errors import RequestError
from vllm_prm.reward import question_of, solution_of

QUESTION = "Mia has 3 eggs.\n\nHow many now?"

# What transformers' apply_chat_template(..., add_generation_prompt=True) writes for a system message, an earlier turn
# and the question, by the templates of the models named in vllm_prm/reward/texts.py.
PROMPTS = {
    "qwen": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nEarlier.<|im_end|>\n<|im_start|>assistant\nYes."
    f"<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    "llama": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nEarlier.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{QUESTION}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<bos><start_of_turn>user\nEarlier.<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>\n"
    f"<start_of_turn>user\n{QUESTION}<end_of_turn>\n<start_of_turn>model\n",
    "deepseek": "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Earlier.<｜Assistant｜>Yes.<｜end▁of▁sentence｜>"
    f"<｜User｜>{QUESTION}<｜Assistant｜><think>\n",
    "mistral": f"<s>[INST] Earlier.[/INST] Yes.</s>[INST] Be brief.\n\n{QUESTION}[/INST]",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_the_question_in_a_chat_template(name):
    question = question_of(PROMPTS[name])
    assert question == (f"Be brief.\n\n{QUESTION}" if name == "mistral" else QUESTION)  # which has no system turn


@pytest.mark.parametrize("text", [QUESTION, " a question ", "What does <|im_end|> mean?", "", "user\nWhat?"])
def test_a_plain_prompt_is_the_question_as_it_stands(text):
    assert question_of(text) == text


@pytest.mark.parametrize(
    ("completion", "solution"),
    [
        ("a\nb<|im_end|>", "a\nb"),
        ("a<|im_end|>\n<|endoftext|><|endoftext|>\n", "a"),
        ("a</s> b</s>", "a</s> b"),  # only what ends it
        ("<|eot_id|>", ""),
        ("  a\n", "  a"),
        ([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}], "a"),
    ],
)
def test_the_solution_in_a_completion(completion, solution):
    assert solution_of(completion) == solution


def test_special_tokens_of_another_vocabulary():
    assert solution_of("a [EOS] <|im_end|>[EOS]", ["[EOS]", ""]) == "a"


def test_a_conversation_without_a_user():
    with pytest.raises(RequestError, match="none from the user"):
        question_of([{"role": "system", "content": "x"}])
