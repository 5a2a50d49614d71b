"""From a question and its steps to token ids and the positions to read, and back to step scores. Runs no model.

scoring.py  Scoring, the life of one solution: read this first
rounds.py   how often the model is asked, and what depends on its answers
layouts.py  one builder for each kind of prompt: texts -> a draft
chats.py    conversations through the tokenizer's chat template
pictures.py questions with images, as an engine has seen them
texts.py    questions and steps as texts: cut, stripped, put into templates
drafts.py   a draft -> token ids and positions
tags.py     the tags among the tokens, found and verified
encoding.py many texts -> token ids at once, and the tokens of a text's beginning
prefixes.py beginnings of prompts whose tokens are known
cuts.py     where a tokenizer provably cuts a text
reads.py    a prompt step by step, for a model that generates text
likeliest.py  a step's logits where only the likeliest tokens are given
mass.py     told once a judge has answered: whether it would rather have said something else
"""

from vllm_prm.prompts.drafts import Prompt
from vllm_prm.prompts.pictures import SeenQuestion
from vllm_prm.prompts.scoring import Scoring, scorings, take_all
from vllm_prm.prompts.texts import split_steps

__all__ = ["Prompt", "Scoring", "SeenQuestion", "scorings", "split_steps", "take_all"]
