"""W1, best of N: what does scoring cost on top of the forward pass, and beside the other ways to score?

Every turn is one question of real length and its candidate solutions, sent as one batch; no turn shares anything
with another. `ours` reuses the blocks of the question among its candidates, `whole` is ours without prefix caching.

`pooler` is the share of a way's own time that its pooler takes. `whole`, `floor` and `native` run the same forward
pass, so this is all that scoring adds, measured inside one process; the ratios compare processes, which differ by a few
percent even when they run the same way (--controls shows by how much, on the machine at hand).
"""

from __future__ import annotations

import statistics

from turns import checkpoint, difference, faster, finish, parser, play
from workloads import best_of_n, mean_lengths, sent

WAYS = ["ours", "whole", "floor", "native", "logprobs", "transformers"]
SELDOM = {"logprobs": 10, "transformers": 10}  # ten times slower than the others


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--candidates", type=int, default=8)
    made.add_argument("--turns", type=int, default=100)
    made.add_argument("--controls", action="store_true", help="also boot whole, floor and native a second time")
    made.add_argument("--mean", action="store_true", help="mean lengths, no shared question, vLLM's ways only")
    arguments = made.parse_args()
    count = 3 if arguments.quick else arguments.turns
    seldom = dict.fromkeys(SELDOM, 2) if arguments.quick else SELDOM
    with checkpoint(arguments, max_model_len=8192) as what:
        tag, size = what.tokens.tag, arguments.candidates
        if arguments.mean:
            turns = [mean_lengths(seed, tag, size) for seed in range(count + 1)]
        else:
            turns = [best_of_n(seed, tag, 1, size) for seed in range(count + 1)]
        ways = [way for way in WAYS if not (arguments.mean and way in SELDOM)]
        ways += [f"{way}#2" for way in ("whole", "floor", "native") if arguments.controls]
        played = play(what, ways, turns, seldom)

    lengths = "50 + 11 x 30 tokens each" if arguments.mean else "real lengths"
    print(f"{arguments.candidates} solutions, {lengths}, {arguments.dtype}; times are medians over turns")
    titles = f"{'turns':>6}{'seconds':>9}{'tokens/s':>10}{'pooler':>9}"
    print(f"{'':14}{titles}{'throughput of ours / its, no reuse (quartiles)':>52}")
    ratios, share = {}, {}
    for way in ways:
        seconds = {n: found.seconds for n, found in played[way].items()}
        speed = statistics.median(sent(turns[n]) / s for n, s in seconds.items())
        share[way] = statistics.median(found.pooler / found.seconds for found in played[way].values())
        ratios[way] = faster(played, "whole", way)
        shown = "{median:.3f} ({quarter:.3f} to {three_quarters:.3f})".format(**ratios[way])
        print(
            f"{way:14}{len(seconds):6}{statistics.median(seconds.values()):9.3f}{speed:10.0f}{share[way]:9.2%}{shown:>52}"
        )
    controls = {way: faster(played, way, way.split("#")[0]) for way in ways if "#" in way}
    for way, ratio in controls.items():
        print(f"{way} / itself: {ratio['median']:.3f} ({ratio['quarter']:.3f} to {ratio['three_quarters']:.3f})")
    reuse = faster(played, "ours", "whole")
    print("reuse of the questions / none: {median:.3f} ({quarter:.3f} to {three_quarters:.3f})".format(**reuse))
    cached = sum(sum(found.cached) for found in played["ours"].values()) / sum(map(sent, turns[1:]))
    print(f"tokens that reuse leaves out: {cached:.1%}; largest difference of scores: {difference(played):.1e}")
    document = {
        "benchmark": "best_of_n",
        "candidates": arguments.candidates,
        "lengths": "mean" if arguments.mean else "real",
        "throughput_of_whole_over": ratios,
        "controls": controls,
        "pooler_share": share,
        "reuse_over_none": reuse,
        "cached_share": cached,
        "seconds": {way: [found.seconds for found in played[way].values()] for way in ways},
        "largest_score_difference": difference(played),
    }
    finish(document, what, arguments.output)


if __name__ == "__main__":
    main()
