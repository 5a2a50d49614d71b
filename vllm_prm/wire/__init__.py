"""What our HTTP routes and their clients send each other.

types.py    the bodies of requests and responses
prompts.py  those of one route: what the model reads
rewards.py  those of RL stacks and of OpenR
arrays.py   rows of numbers in them, as lists or packed
faults.py   what is wrong with a body, in sentences
"""

from vllm_prm.wire.arrays import packed, unpacked
from vllm_prm.wire.faults import explain
from vllm_prm.wire.prompts import PromptsRequest, PromptsResponse, PromptTokens
from vllm_prm.wire.rewards import (
    Reply,
    RewardRequest,
    RewardResponse,
    SampleRequest,
    SampleResponse,
    ValuesRequest,
    ValuesResponse,
)
from vllm_prm.wire.types import (
    CachedTokens,
    ErrorInfo,
    Failure,
    Malformed,
    RecipeResponse,
    Score,
    ScoreRequest,
    ScoreResponse,
    Solution,
    Usage,
)

__all__ = [
    "CachedTokens",
    "ErrorInfo",
    "Failure",
    "Malformed",
    "PromptTokens",
    "PromptsRequest",
    "PromptsResponse",
    "RecipeResponse",
    "Reply",
    "RewardRequest",
    "RewardResponse",
    "SampleRequest",
    "SampleResponse",
    "Score",
    "ScoreRequest",
    "ScoreResponse",
    "Solution",
    "Usage",
    "ValuesRequest",
    "ValuesResponse",
    "explain",
    "packed",
    "unpacked",
]
