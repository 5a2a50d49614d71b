"""The question in a trainer's prompt, the solution in a completion.

Trainers give texts as strings or as lists of messages, and strings often as their policy read or wrote them: a prompt
with its chat template around the question, a completion with the token that ended it. A PRM has another template,
so it gets the bare question and the bare solution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.inputs import shown

Text = str | Sequence[Mapping[str, Any]]  # plain, or messages with "role" and "content"

# What stands before and after a user's turn, by the chat_template of tokenizer_config.json (or chat_template.jinja) of
# the model named. Only whole markers count, so a text without them is a question as it stands.
_USER_TURNS = (
    ("<|im_start|>user\n", "<|im_end|>"),  # Qwen/Qwen2.5-7B-Instruct
    ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),  # meta-llama/Llama-3.1-8B-Instruct
    ("<start_of_turn>user\n", "<end_of_turn>"),  # google/gemma-2-9b-it
    ("<｜User｜>", "<｜Assistant｜>"),  # deepseek-ai/DeepSeek-R1
    ("[INST]", "[/INST]"),  # mistralai/Mistral-7B-Instruct-v0.3
)
# The tokens that end a turn in those templates, and those that end a text (eos_token, pad_token of the same models).
_ENDINGS = (
    *("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>"),
    "<｜end▁of▁sentence｜>",
)


def question_of(prompt: Text) -> str:
    """The prompt itself; the last user message of a conversation, as messages or as a chat template writes it.

    Raises RequestError for a conversation without a user, and for what is neither text nor messages.
    """
    if isinstance(prompt, str):
        return _last_user_turn(prompt)
    texts = [_content(message) for message in _messages(prompt, "prompt") if message["role"] == "user"]
    if not texts:
        raise RequestError(
            f"a prompt of {len(prompt)} messages has none from the user; expected the question in a message "
            "with role 'user'"
        )
    return texts[-1]


def solution_of(completion: Text, special_tokens: Iterable[str] = ()) -> str:
    """The completion without what ends it, or all that the assistant says in it. Raises RequestError as question_of.

    special_tokens: other texts that are no part of a solution's end.
    """
    if isinstance(completion, str):
        return _without_endings(completion, (*_ENDINGS, *special_tokens))
    texts = (_content(message) for message in _messages(completion, "completion") if message["role"] == "assistant")
    return "\n\n".join(text for text in texts if text)


def _without_endings(text: str, endings: Sequence[str]) -> str:
    """The text without these and white space at its end, however often they stand there."""
    text = text.rstrip()
    while ending := next((ending for ending in endings if ending and text.endswith(ending)), None):
        text = text.removesuffix(ending).rstrip()
    return text


def _last_user_turn(text: str) -> str:
    for before, after in _USER_TURNS:
        _, found, turn = text.rpartition(before)
        if found:
            return turn.partition(after)[0].strip()
    return text


def _messages(text: Any, role_in_call: str) -> list[Mapping[str, Any]]:
    if not isinstance(text, Sequence) or not all(isinstance(m, Mapping) and "role" in m for m in text):
        raise RequestError(
            f"a {role_in_call} is {shown(text)}; expected a string, or a list of messages with 'role' and 'content'"
        )
    return list(text)


def _content(message: Mapping[str, Any]) -> str:
    """A message's text. Its content may be None (a tool call) or a list of parts, of which texts count."""
    content = message.get("content")
    if isinstance(content, list | tuple):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content or ""
