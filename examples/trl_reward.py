"""A PRM as a reward function for TRL's GRPOTrainer: `reward_fn()` has the signature that `reward_funcs` wants.

    trainer = GRPOTrainer(model=..., reward_funcs=prm.reward_fn(), train_dataset=..., args=GRPOConfig(...))

In training the PRM is better a server (PRMClient), so that it does not share the trainer's GPU. Here the function is
called as the trainer calls it: prompts, completions, and by name whatever else there is.
"""

import sys
from pathlib import Path

from vllm_prm import PRM, PRMClient

MODEL = Path(__file__).parent / "tiny-prm"
QUESTION = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
COMPLETIONS = [
    "Step 1: 12 + 5 = 17\nStep 2: 17 - 9 = 8",
    "Step 1: 12 + 5 = 17\nStep 2: 17 - 9 = 7",
    "",  # nothing to score: None, which TRL takes as "this function does not apply"
]


def main() -> None:
    with PRMClient(sys.argv[1]) if len(sys.argv) > 1 else PRM(str(MODEL), dtype="float32") as prm:
        reward = prm.reward_fn(aggregate="min")
        plain = reward(prompts=[QUESTION] * 3, completions=COMPLETIONS, trainer_state=None)
        chats = reward(
            prompts=[[{"role": "user", "content": QUESTION}]] * 3,
            completions=[[{"role": "assistant", "content": text}] for text in COMPLETIONS],
        )
        print(f"reward function {reward.__name__}")
        for text, value in zip(COMPLETIONS, plain, strict=True):
            print(f"{'None  ' if value is None else f'{value:.4f}'}  {text!r}")
        assert plain == chats


if __name__ == "__main__":  # vLLM starts processes that import this file again
    main()
