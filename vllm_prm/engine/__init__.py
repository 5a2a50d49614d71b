"""Everything that touches vLLM; nothing outside this package imports it.

plugin.py      register(): the entry point; puts the three seams in place
flags.py       seam: `vllm serve --task / --prm`
requests.py    seam: PoolingParams.verify, where a request is checked before it reaches the engine
model.py       seam: as_embedding_model, where a generation class becomes a PRM class
settings.py    whether an engine is a PRM, and with which tag and scoring tokens
vocabulary.py  pieces, ids and probes against the served tokenizer
positions.py   which positions of a prompt are read: its step tags, or those a request names
pooler.py      StepPooler: the rows of one batch -> step scores per request
score_cache.py ScoreCache: scores that live as long as the KV blocks they belong to
head.py        ScoringHead: columns of the model's own logits
own_heads.py   heads of reward models that do not score by vocabulary entries
"""
