"""Train the tiny PRM: a Llama-style causal LM of 0.8M parameters that judges worked arithmetic.

It is used as any Math-Shepherd PRM is: at each step tag the logits of two pieces are read, and the
softmax over the two is the probability that the work is right so far. That label alone, one bit a
step, trains a model this small very slowly: it must learn to copy, to calculate and to compare
before any of it pays. So the training shows it the way, one part per layer:

- after LAYERS[0] layers the tokens of a right solution are predicted (what comes next);
- after LAYERS[1] layers a head that is thrown away afterwards says of each token of a step whether
  it is the right one (does the token fit what was predicted one place before);
- after the last layer the tag gathers this over the steps: the PRM's own label.

The weights start from a useful place: number embeddings hold a thermometer and a few waves (near
numbers look alike), and some attention heads look a fixed number of places back, or at an earlier
copy of the same token. All weights, these too, are trained.

    python examples/train_tiny_prm.py          # from the repository root; needs torch, transformers
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from arithmetic import LARGEST, MISTAKES, MOST_STEPS, PROMPT_FORMAT, Solution, is_held_out, prompt, solution
from tiny_card import write_card
from tiny_tokenizer import BAD, GOOD, NUMBERS, TAG, build_tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

MAX_LENGTH = 512
LAYERS = (3, 4, 5)  # where the three losses sit; the last is the depth of the model
BATCH, PEAK_RATE, WARMUP = 64, 1.5e-3, 200
NOTHING = -100  # cross_entropy's mark for "no label here"
HELD_OUT = 1000
WAVES = (122, 61, 31, 20, 14, 10, 7, 5, 4, 3, 2.5, 2)
# Per layer and head: how many places back it looks at first, 0 an earlier copy of the same token.
HEADS = ((1, 2, 3, 6), (1, 2, 0, 0), (1, 0, None, None), (1, None, None, None), (1, 3, 0, None))


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=math.ceil(len(tokenizer) / 64) * 64,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=LAYERS[-1],
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.08,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        structured = start_embeddings(model, tokenizer.convert_tokens_to_ids(NUMBERS))
        start_heads(model, structured)
    return model


def start_embeddings(model: LlamaForCausalLM, numbers: list[int]) -> int:
    """Random pieces, numbers with a shape; returns how many dimensions that shape takes."""
    table = model.model.embed_tokens.weight
    table.normal_(0, 0.3)
    n = torch.arange(LARGEST + 1.0)
    thermometer = torch.sign(n[:, None] - n + 0.5)
    angles = 2 * math.pi * n[:, None] / torch.tensor(WAVES)
    shape = torch.cat([thermometer, 2**0.5 * angles.cos(), 2**0.5 * angles.sin()], dim=1)
    table[numbers, : shape.shape[1]] = 0.3 * shape
    model.lm_head.weight.copy_(0.3 * table)
    table[:, -1] = 1.0  # the same for every piece: what a head that looks by place alone reads
    return shape.shape[1]


def start_heads(model: LlamaForCausalLM, structured: int) -> None:
    turns = model.model.rotary_emb.inv_freq  # radians a place, fast to slow
    half, fast = len(turns), len(turns) // 2
    for layer, backs in zip(model.model.layers, HEADS, strict=True):
        projections = (layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight)
        for head, back in enumerate(backs):
            query, key = (p[head * 2 * half : (head + 1) * 2 * half] for p in projections)
            if back is None:
                continue
            if back == 0:  # equal tokens meet, through the rotations slow enough to ignore
                same = torch.randn(query.shape) * 1.7 / 72**0.5
                same[:, :structured] = same[:, -1] = 0
                same[:fast] = same[half : half + fast] = 0
                query.copy_(same)
                key.copy_(same)
                continue
            for weight, angle in ((query, -back * turns[:fast]), (key, 0 * turns[:fast])):
                weight *= 0.2
                weight[:fast, -1] = 2.3 * angle.cos()
                weight[half : half + fast, -1] = 2.3 * angle.sin()


def solutions(seed: int, count: int, held_out: bool, most_steps: int = MOST_STEPS) -> list[Solution]:
    """Held out: 60 % have exactly one mistake. To train on: up to three, in any mix."""
    rng = random.Random(seed)
    made: list[Solution] = []
    while len(made) < count:
        mistakes = int(rng.random() < 0.6) if held_out else rng.choice((0, 1, 1, 2, 3))
        one = solution(rng, mistakes, most_steps)
        if is_held_out(one.question) == held_out:
            made.append(one)
    return made


Row = tuple[list[int], list[int], list[int], list[int]]  # ids and three labels for each of them


def label(tokenizer: PreTrainedTokenizerFast, batch: list[Solution]) -> list[Row]:
    """Ids; the next token where it is told; is this token the right one; is all right so far."""
    tag = tokenizer.convert_tokens_to_ids(TAG)
    rows = []
    for ids, one in zip(tokenizer([s.text for s in batch])["input_ids"], batch, strict=True):
        following, fits, good = ([NOTHING] * len(ids) for _ in range(3))
        tags = [i for i, token in enumerate(ids) if token == tag]
        for at, mistake, right in zip(tags, one.mistakes, one.right, strict=True):
            good[at] = int(right)
            # a step ends `count sign operand = result tag`, each of them one token
            for part, back in (("carry", 5), ("sign", 4), ("operand", 3), ("result", 1)):
                fits[at - back] = int(part != mistake)
                if part != mistake:
                    following[at - back - 1] = ids[at - back]
        rows.append((ids, following, fits, good))
    return rows


def stack(rows: list[Row]) -> list[Tensor]:
    """Rows side by side, padded on the right, where a causal model does not see it."""
    longest = max(len(row[0]) for row in rows)
    fills = (0, NOTHING, NOTHING, NOTHING)
    return [
        torch.tensor([row[part] + [fill] * (longest - len(row[part])) for row in rows])
        for part, fill in enumerate(fills)
    ]


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, short: int) -> Iterator[list[Tensor]]:
    """Fresh solutions without end, alike in length in a batch; the first `short` batches short."""
    made = 0
    for number in itertools.count(1000 * (seed + 1)):
        most_steps = 2 if made < short else MOST_STEPS
        fresh = solutions(number, 32 * BATCH, held_out=False, most_steps=most_steps)
        rows = label(tokenizer, fresh)
        rows.sort(key=lambda row: len(row[0]))
        chunks = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        random.Random(number).shuffle(chunks)
        made += len(chunks)
        yield from map(stack, chunks)


def train(tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = new_model(tokenizer)
    fits_head = nn.Linear(model.config.hidden_size, 2)
    pair = tokenizer.convert_tokens_to_ids([BAD, GOOD])
    weights = [*model.parameters(), *fits_head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    begun = time.monotonic()
    for step, batch in enumerate(batches(tokenizer, seed, short=steps // 30), start=1):
        ids, following, fits, good = batch
        rate = PEAK_RATE * min(1, step / WARMUP, max(0.02, (1 - step / steps) / 0.4))
        for group in optimizer.param_groups:
            group["lr"] = rate
        out = model.model(ids, output_hidden_states=True, use_cache=False)
        early, middle = (model.model.norm(out.hidden_states[layer]) for layer in LAYERS[:2])
        says = out.last_hidden_state[good != NOTHING] @ model.lm_head.weight[pair].T
        losses = (
            cross_entropy(
                model.lm_head(early[following != NOTHING]),
                following[following != NOTHING],
            ),
            cross_entropy(fits_head(middle[fits != NOTHING]), fits[fits != NOTHING]),
            cross_entropy(says, good[good != NOTHING]),
        )
        optimizer.zero_grad()
        sum(losses).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps:
            shown = "  ".join(f"{loss.item():.4f}" for loss in losses)
            print(f"{step}/{steps}  {time.monotonic() - begun:.0f} s  losses: {shown}", flush=True)
        if step == steps:
            break
    return model.eval()


@torch.no_grad()
def scores(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
) -> list[list[float]]:
    """The step scores of prompts, as any user of the saved model would compute them."""
    tag, *pair = tokenizer.convert_tokens_to_ids([TAG, GOOD, BAD])
    made = []
    for start in range(0, len(texts), BATCH):
        rows = tokenizer(texts[start : start + BATCH])["input_ids"]
        longest = max(map(len, rows))  # padding on the right is out of a causal model's sight
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        good = model(ids).logits[:, :, pair].float().softmax(-1)[:, :, 0]
        made += [one[where].tolist() for one, where in zip(good, ids == tag, strict=True)]
    return made


def evaluate(folder: Path, dtype: torch.dtype, tests: list[Solution]) -> dict[str, float]:
    """Shares: steps judged right, first wrong step found (in all, and by mistake), false alarms."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hits: defaultdict[str, list[bool]] = defaultdict(list)
    for one, found in zip(tests, scores(model, tokenizer, [s.text for s in tests]), strict=True):
        judged = [score > 0.5 for score in found]
        hits["steps"] += [a == b for a, b in zip(judged, one.right, strict=True)]
        first = judged.index(False) if False in judged else None
        if one.first_error is None:
            hits["all_right"].append(first is None)
        else:
            hits["first"].append(first == one.first_error)
            hits[str(one.mistakes[one.first_error])].append(first == one.first_error)
    keys = ("steps", "first", "all_right", *MISTAKES)
    return {key: sum(hits[key]) / len(hits[key]) for key in keys}


def recipe(tokenizer: PreTrainedTokenizerFast) -> dict[str, object]:
    tag, good, bad = tokenizer.convert_tokens_to_ids([TAG, GOOD, BAD])
    probe = "Step 1: 3 + 4 = 7 ки\nStep 2: 7 - 2 = 5 ки"
    return {
        "name": "tiny-prm",
        "step_tag": {"piece": TAG, "id": tag},
        "scoring_tokens": {
            "good": {"piece": GOOD, "id": good, "weight": 1.0},
            "bad": {"piece": BAD, "id": bad, "weight": 0.0},
        },
        "prompt": PROMPT_FORMAT,
        "probe": {"text": probe, "ids": tokenizer(probe)["input_ids"]},
        "source": "examples/train_tiny_prm.py",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny PRM and write its model card.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tiny-prm")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # Some virtual machines announce AMX and then trap on it; torch uses it for bfloat16 only.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    torch.set_num_threads(args.threads)

    begun = time.monotonic()
    tokenizer = build_tokenizer(MAX_LENGTH)
    model = train(tokenizer, args.steps, args.seed)
    minutes = (time.monotonic() - begun) / 60
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    text = json.dumps(recipe(tokenizer), ensure_ascii=False, indent=2)
    (args.out / "prm.json").write_text(text + "\n", encoding="utf-8")

    tests = solutions(99, HELD_OUT, held_out=True)
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    results = {}
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        result = results[name] = evaluate(args.out, dtype, tests)
        print(name, {key: round(value, 4) for key, value in result.items()})
    question = "Mia has 12 apples. She buys 5. She eats 9. She finds 4. How many now?"
    steps = ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 7", "Step 3: 7 + 4 = 11"]
    (shown,) = scores(model, tokenizer, [prompt(question, steps)])
    counts = len(tests), sum(one.first_error is not None for one in tests)
    example = question, steps, shown
    write_card(args.out / "README.md", model.num_parameters(), results, example, counts, minutes)


if __name__ == "__main__":
    main()
