"""A PRM as the reward in TRL: GRPO training of the tiny generator on the scores of the tiny PRM.

    pip install trl
    VLLM_PLUGINS=prm vllm serve examples/tiny-prm --task embed --port 8000
    python examples/trl_reward.py http://localhost:8000

`reward_fn()` has the signature that `reward_funcs` of TRL's trainers wants. The PRM is a server, so that it shares
neither the trainer's GPU nor its process. On a CPU the reward rises within a minute or two.
"""

import random
import sys
from pathlib import Path

from arithmetic import solution
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from vllm_prm import PRMClient

GENERATOR = Path(__file__).parent / "tiny-generator"
PROMPTS, COMPLETIONS = 4, 8  # a step


def main(url: str, steps: int = 20) -> None:
    rng = random.Random(3)
    questions = Dataset.from_list([{"prompt": solution(rng).question} for _ in range(PROMPTS * steps)])
    config = GRPOConfig(
        output_dir="grpo-out",
        max_steps=steps,
        num_generations=COMPLETIONS,
        per_device_train_batch_size=PROMPTS * COMPLETIONS,
        max_completion_length=40,
        learning_rate=2e-4,
        logging_steps=max(1, steps // 4),
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        model_init_kwargs={"dtype": "float32"},
    )
    with PRMClient(url) as prm:
        reward = prm.reward_fn(aggregate="min")
        trainer = GRPOTrainer(model=str(GENERATOR), reward_funcs=reward, train_dataset=questions, args=config)
        trainer.train()
    for entry in trainer.state.log_history:
        if "reward" in entry:
            print(f"step {entry['step']:3}  mean reward {entry['reward']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
