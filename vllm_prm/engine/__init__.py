"""Everything that touches vLLM; nothing outside this package imports it, and importing it imports no vLLM.

The rooms are the processes that a line runs in:

start/   every process, when it starts, and the front end, when it takes a request: hooks into vLLM and what they do
worker/  the process that holds the model: from hidden states to step scores
serve/   the front end: from solutions to prompts and back, offline (PRM) and on vLLM's API server (HTTP routes)

Four files are for several of them. Two of these because front end and worker must come to the same verdict without
talking to each other:

compat.py      which vLLM this is, and what differs between versions
settings.py    whether an engine is a PRM, and with which tags and scoring tokens
positions.py   the positions that a request names in place of step tags
generation.py  whether an engine that generates text can score by a recipe
"""
