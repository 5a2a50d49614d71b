"""Scores from a server that completes text, without our plugin: one read per step, through `/v1/completions`.

route.py       what AsyncPRMClient asks instead of /v1/prm/score
forms.py       the forms of a request that servers understand, and which of them this one does
answers.py     the logits of a step from what the server says of its likeliest tokens
tokenizers.py  the model's tokenizer on this side, and whether the server has the same
remote.py      the server's own tokenizer, where there is none on this side
"""

from vllm_prm.client.completions.route import CompletionsRoute

__all__ = ["CompletionsRoute"]
