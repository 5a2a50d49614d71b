"""What runs when a vLLM process starts, and when its front end takes a request.

plugin.py         register(): the entry point; puts the four seams in place
flags.py          seam: `vllm serve --task / --prm`
requests.py       seam: PoolingParams.verify, where a request is checked before it reaches the engine
configuration.py  seam: create_engine_config, where a PRM's configuration is completed or refused
windows.py        a PRM whose layers all have a window keeps all tokens
options.py        a recipe as options of vLLM's engine
arguments.py      vLLM's engine options from words of a command line
seams.py          whether the installed vLLM is as we need it
imports.py        what we import of vLLM
lookups.py        how seams.py looks
misfits.py        whether a model fits a recipe
"""
