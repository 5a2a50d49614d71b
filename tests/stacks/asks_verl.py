"""verl's reward manager calls the reward function that its configuration names, and its metrics take what it gives."""

import asyncio
import os

import numpy as np
import torch
from documented import QUESTION, SOLUTIONS, answer, url_argument, words
from omegaconf import OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.reward import get_custom_reward_fn

typed = words("verl", url_argument())
name, _, value = typed[typed.index("export") + 1].partition("=")
os.environ[name] = value
overrides = [word.removeprefix("+") for word in typed if word.lstrip("+").startswith("reward.")]
defaults = {"reward": {"custom_reward_function": {"path": None, "name": "compute_score"}}}
config = OmegaConf.merge(defaults, OmegaConf.from_dotlist(overrides))


class Tokenizer:
    """The policy's, which only has to give back what was generated."""

    def decode(self, ids, skip_special_tokens):
        return SOLUTIONS[int(ids[0])]


async def asked(number: int) -> dict:
    manager = NaiveRewardManager(config, Tokenizer(), get_custom_reward_fn(config))
    tensors = {"responses": torch.tensor([[number, 0]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    columns = {
        "data_source": np.array(["arithmetic"], dtype=object),
        "reward_model": np.array([{"ground_truth": "12", "style": "rule"}], dtype=object),
        "extra_info": np.array([{"question": QUESTION, "index": number}], dtype=object),
    }
    return await manager.run_single(DataProto.from_dict(tensors, columns))


async def all_asked() -> list[dict]:
    return await asyncio.gather(*(asked(number) for number in range(len(SOLUTIONS))))


given = asyncio.run(all_asked())
infos = [one["reward_extra_info"] for one in given]
gathered = {key: np.array([info[key] for info in infos]) for key in infos[0]}  # as its agent loop gathers them
metrics = process_validation_metrics(
    ["arithmetic"] * len(infos), ["a"] * len(infos), {key: values.tolist() for key, values in gathered.items()}
)
answer(rewards=[one["reward_score"] for one in given], infos=infos, metrics=metrics["arithmetic"])
