"""W1, best of N: what does scoring cost on top of the forward pass, and beside the other ways to score?

Every turn is one question of real length and its candidate solutions, sent as one batch; no turn shares anything
with another. `ours` reuses the blocks of the question among its candidates, `whole` is ours without prefix caching.

`pooler` is the share of a way's own time that its pooler takes. `whole`, `floor` and `native` run the same forward
pass, so this is all that scoring adds, measured inside one process; the ratios compare processes, which differ by a few
percent even when they run the same way (--controls shows by how much, on the machine at hand).
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from turns import Played, checkpoint, difference, faster, finish, parser, play
from workloads import Batches, best_of_n, mean_lengths, sent

WAYS = ["ours", "whole", "floor", "native", "logprobs", "transformers"]
SELDOM = {"logprobs": 10, "transformers": 10}  # ten times slower than the others


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--candidates", type=int, default=8)
    options.add_argument("--turns", type=int, default=100)
    options.add_argument("--controls", action="store_true", help="also boot whole, floor and native a second time")
    options.add_argument("--mean", action="store_true", help="mean lengths, no shared question, vLLM's ways only")
    arguments = options.parse_args()
    num_turns = 3 if arguments.quick else arguments.turns
    seldom = dict.fromkeys(SELDOM, 2) if arguments.quick else SELDOM
    ways = [way for way in WAYS if not (arguments.mean and way in SELDOM)]
    ways += [f"{way}#2" for way in ("whole", "floor", "native") if arguments.controls]
    with checkpoint(arguments, max_model_len=8192) as model:
        turns = _turns(arguments, num_turns, model.tokens.tag)
        played = play(model, ways, turns, seldom)
    document = {"benchmark": "best_of_n", "candidates": arguments.candidates, **_measured(played, turns)}
    document["lengths"] = "mean" if arguments.mean else "real"
    _show(document, played, turns, arguments)
    finish(document, model, arguments.output)


def _turns(arguments: argparse.Namespace, num_turns: int, tag: int) -> list[Batches]:
    """One question with its candidates a turn; turn 0 warms up."""
    if arguments.mean:
        return [mean_lengths(seed, tag, arguments.candidates) for seed in range(num_turns + 1)]
    return [best_of_n(seed, tag, 1, arguments.candidates) for seed in range(num_turns + 1)]


def _measured(played: Played, turns: list[Batches]) -> dict[str, Any]:
    cached = sum(sum(turn.cached) for turn in played["ours"].values()) / sum(map(sent, turns[1:]))
    return {
        "throughput_of_whole_over": {way: faster(played, "whole", way) for way in played},
        "controls": {way: faster(played, way, way.split("#")[0]) for way in played if "#" in way},
        "pooler_share": {
            way: statistics.median(turn.pooler / turn.seconds for turn in its_turns.values())
            for way, its_turns in played.items()
        },
        "reuse_over_none": faster(played, "ours", "whole"),
        "cached_share": cached,
        "seconds": {way: [turn.seconds for turn in its_turns.values()] for way, its_turns in played.items()},
        "largest_score_difference": difference(played),
    }


def _show(document: dict[str, Any], played: Played, turns: list[Batches], arguments: argparse.Namespace) -> None:
    lengths = "50 + 11 x 30 tokens each" if arguments.mean else "real lengths"
    print(f"{arguments.candidates} solutions, {lengths}, {arguments.dtype}; times are medians over turns")
    titles = f"{'turns':>6}{'seconds':>9}{'tokens/s':>10}{'pooler':>9}"
    print(f"{'':14}{titles}{'throughput of ours / its, no reuse (quartiles)':>52}")
    for way, its_turns in played.items():
        speed = statistics.median(sent(turns[number]) / turn.seconds for number, turn in its_turns.items())
        seconds, share = statistics.median(document["seconds"][way]), document["pooler_share"][way]
        ratio = _quartiles(document["throughput_of_whole_over"][way])
        print(f"{way:14}{len(its_turns):6}{seconds:9.3f}{speed:10.0f}{share:9.2%}{ratio:>52}")
    for way, ratio in document["controls"].items():
        print(f"{way} / itself: {_quartiles(ratio)}")
    print(f"reuse of the questions / none: {_quartiles(document['reuse_over_none'])}")
    print(
        f"tokens that reuse leaves out: {document['cached_share']:.1%}; "
        f"largest difference of scores: {document['largest_score_difference']:.1e}"
    )


def _quartiles(ratio: dict[str, float]) -> str:
    return "{median:.3f} ({quarter:.3f} to {three_quarters:.3f})".format(**ratio)


if __name__ == "__main__":
    main()
