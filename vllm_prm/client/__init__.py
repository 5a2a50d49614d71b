"""Clients of a server that scores: the same methods, results and errors as PRM in this process.

transport.py     HTTP: connections, retries, and answers or errors
asynchronous.py  AsyncPRMClient, for asyncio
blocking.py      PRMClient, the same for everybody else
"""

from vllm_prm.client.asynchronous import AsyncPRMClient
from vllm_prm.client.blocking import PRMClient

__all__ = ["AsyncPRMClient", "PRMClient"]
