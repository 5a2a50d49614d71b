"""Clients of a server that scores: the same methods, results and errors as PRM in this process.

blocking.py      PRMClient, for everybody
asynchronous.py  AsyncPRMClient, the same for asyncio
score_route.py   our route: requests, and what their responses say
completions/     a server without our plugin, asked step by step
batch.py         one call of score_batch: a result for each solution
packing.py       which solutions share a request
limit.py         how many are under way at once
transport.py     HTTP: connections, retries, and answers or errors
"""

from vllm_prm.client.asynchronous import AsyncPRMClient
from vllm_prm.client.blocking import PRMClient

__all__ = ["AsyncPRMClient", "PRMClient"]
