"""Everything that touches vLLM; nothing outside this package imports it.

plugin.py      register(): the entry point; puts the three seams in place
flags.py       seam: `vllm serve --task / --prm`
requests.py    seam: PoolingParams.verify, where a request is checked before it reaches the engine
model.py       seam: as_embedding_model, where a generation class becomes a PRM class
seams.py       whether the installed vLLM is as all of these need it, and a model as its recipe
options.py     a recipe as options of vLLM's engine
arguments.py   vLLM's engine options from words of a command line
settings.py    whether an engine is a PRM, and with which tag and scoring tokens; what cannot be one
cautions.py    what works, but not as one would expect: said when the engine starts
vocabulary.py  pieces, ids and probes against the served tokenizer
positions.py   which positions of a prompt are read: its step tags, or those a request names
pooler.py      StepPooler: the rows of one batch -> step scores per request
score_cache.py ScoreCache: scores that live as long as the KV blocks they belong to
head.py        ScoringHead: columns of the model's own logits
own_heads.py   heads of reward models that do not score by vocabulary entries
offline.py     PRM: solutions -> step scores, on an engine in this process
endpoint.py    the HTTP routes, as an endpoint plugin of vLLM's API server
serving.py     PRMServing: solutions -> step scores, on that server's engine
answers.py     the routes' bodies: requests of the schema -> responses of the schema
"""
