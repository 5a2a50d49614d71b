"""Rewards for training: from a trainer's prompts and completions to one number for each.

texts.py     the question in a prompt, the solution in a completion
outcome.py   Reward: a completion's step scores, as a number and for logs
function.py  RewardFunction and AsyncRewardFunction, TRL's shape, on anything that scores batches
"""

from vllm_prm.reward.function import AsyncRewardFunction, RewardFunction
from vllm_prm.reward.outcome import Reward
from vllm_prm.reward.texts import Text, question_of, solution_of

__all__ = ["AsyncRewardFunction", "Reward", "RewardFunction", "Text", "question_of", "solution_of"]
