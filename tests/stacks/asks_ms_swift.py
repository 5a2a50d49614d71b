"""ms-swift computes the rewards of a batch with what the plugin registered."""

import torch
from documented import MESSAGES, SOLUTIONS, answer, run, url_argument
from swift.rewards import orms
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import score_completions

run("ms-swift", url_argument())
reward = orms["prm"](args=None)  # as its GRPOTrainer makes it
samples = [GRPOSample(messages=[*MESSAGES, {"role": "assistant", "content": solution}]) for solution in SOLUTIONS]
batches = [score_completions(samples, [reward], [None], False, torch.device("cpu")) for _ in range(2)]
answer(rewards=[batch[:, 0].tolist() for batch in batches], step_scores=reward.step_scores)
