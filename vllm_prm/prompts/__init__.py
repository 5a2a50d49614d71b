"""From a question and its steps to token ids and the positions to read, and back to one row of logits per step.

`plan` asks for what it needs and never runs a model, `chats` writes the conversations, `locate` finds and verifies the
tags among the tokens, `tokens` knows the tokenizer, `texts` checks and splits what users send.
"""

from vllm_prm.prompts.plan import Prompt, score_plan
from vllm_prm.prompts.texts import split_steps

__all__ = ["Prompt", "score_plan", "split_steps"]
