"""Train the tiny generator: a causal LM of 0.5M parameters that works arithmetic problems, and often gets them wrong.

The other half of a search: it proposes steps, the tiny PRM judges them. It begins as the first layers of the tiny PRM,
which were trained to know what comes next in a right solution (train_tiny_prm.py), and then learns in a minute to
write whole solutions, without step tags: `Step 1: 12 + 5 = 17`, a new line, the next step, the end. It learns from
solutions with mistakes in them, so that a sample of it has mistakes too.

    python examples/train_tiny_generator.py    # from the repository root; needs torch, transformers
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import torch
from arithmetic import LARGEST, MOST_STEPS, Solution, is_held_out, solution
from torch import Tensor
from torch.nn.functional import cross_entropy
from train_tiny_prm import LAYERS, NOTHING, solutions
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
BATCH, PEAK_RATE = 64, 1e-3
HELD_OUT = 200
CARD = """---
license: apache-2.0
pipeline_tag: text-generation
---
# tiny-generator

A causal language model of {parameters:.2f}M parameters (Llama architecture) that works arithmetic problems step by
step and often gets them wrong: the model that the tiny PRM beside it steers in `examples/beam_search.py`, and that
`examples/trl_reward.py` trains. It knows only problems of 1 to {steps} steps with numbers from 0 to {largest}, in one
wording.

Question: `{question}`

```
{solution}
```

Of {tests} held-out questions it gets {greedy:.1f} % right when decoded greedily and {sampled:.1f} % when sampled at
temperature 1 (the whole solution, every step).

`python examples/train_tiny_generator.py`: the first layers of the tiny PRM, then {training_steps} batches of {batch}
solutions, many with a mistake; about a minute on one CPU core. License: Apache-2.0.
"""


def first_layers(folder: Path) -> LlamaForCausalLM:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.model.layers = model.model.layers[: LAYERS[0]]
    model.config.num_hidden_layers = LAYERS[0]
    return model


def prompt_and_text(one: Solution) -> tuple[str, str]:
    return one.question, one.question + " " + "\n".join(one.steps)


def batch(tokenizer: PreTrainedTokenizerFast, made: list[Solution]) -> tuple[Tensor, Tensor]:
    """Ids, and what comes after each of them where that is part of the solution."""
    rows, following = [], []
    for one in made:
        question, whole = prompt_and_text(one)
        ids = [*tokenizer(whole)["input_ids"], tokenizer.eos_token_id]
        told = len(tokenizer(question)["input_ids"])
        rows.append(ids)
        following.append([NOTHING] * (told - 1) + ids[told:] + [NOTHING])
    longest = max(map(len, rows))
    pad = [longest - len(row) for row in rows]
    return (
        torch.tensor([row + [0] * more for row, more in zip(rows, pad, strict=True)]),
        torch.tensor([row + [NOTHING] * more for row, more in zip(following, pad, strict=True)]),
    )


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    begun = time.monotonic()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1, step / 20, (steps + 1 - step) / (0.4 * steps))
        ids, following = batch(tokenizer, solutions(1000 + step, BATCH, held_out=False))
        logits = model(ids).logits
        loss = cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=NOTHING)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps:
            print(f"{step}/{steps}  {time.monotonic() - begun:.0f} s  loss: {loss.item():.4f}", flush=True)


@torch.no_grad()
def share_right(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tests: list[Solution], temperature: float
) -> float:
    """The share of the questions whose whole solution, every step, comes out as told."""
    torch.manual_seed(0)
    hits = []
    for one in tests:
        question, whole = prompt_and_text(one)
        ids = tokenizer(question, return_tensors="pt")["input_ids"]
        how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, pad_token_id=0, **how)
        hits.append(out[0, ids.shape[1] :].tolist() == batch(tokenizer, [one])[0][0, ids.shape[1] :].tolist())
    return sum(hits) / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny generator and write its model card.")
    parser.add_argument("--out", type=Path, default=HERE / "tiny-generator")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    # Some virtual machines announce AMX and then trap on it; torch uses it for bfloat16 only.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(HERE / "tiny-prm")
    model = first_layers(HERE / "tiny-prm")
    train(model, tokenizer, args.steps)
    rng = random.Random(77)
    right = [one for one in (solution(rng) for _ in range(20 * HELD_OUT)) if is_held_out(one.question)][:HELD_OUT]
    greedy, sampled = (share_right(model.eval(), tokenizer, right, temperature) for temperature in (0.0, 1.0))
    print(f"whole solutions right: {greedy:.3f} greedy, {sampled:.3f} at temperature 1")
    model.half().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    question, whole = prompt_and_text(right[0])
    card = CARD.format(
        parameters=model.num_parameters() / 1e6,
        largest=LARGEST,
        steps=MOST_STEPS,
        question=question,
        solution=whole.removeprefix(question + " "),
        tests=HELD_OUT,
        greedy=100 * greedy,
        sampled=100 * sampled,
        training_steps=args.steps,
        batch=BATCH,
    )
    (args.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
