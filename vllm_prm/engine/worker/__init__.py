"""What runs in the process that holds the model.

model.py         seam: as_embedding_model, where a generation class becomes a PRM class
build.py         what such a model is given: settings, a pooler
refusals.py      what cannot be served, and what works otherwise than one would expect
layers.py        what a built model's layers say of their caches
pooler.py        StepPooler: the hidden states of one batch -> step scores per request
batch.py         what vLLM says of a scheduled batch
read_out.py      what a request wants to know of its steps
tags.py          the step tags among a prompt's token ids
score_cache.py   ScoreCache: scores that live as long as the KV blocks they belong to
head.py          ScoringHead: logits of the scoring tokens
head_columns.py  columns of the output head, read without the others
head_check.py    whether the columns may stand for the whole head
own_heads.py     heads that do not score by vocabulary entries
"""
