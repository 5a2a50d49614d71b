"""W4, tail: very long solutions beside ordinary ones. How much memory, and how long do the small ones wait?

One turn sends a solution of 32k tokens, one of 4k and ordinary ones, in that order. vLLM computes long prompts in
chunks, so memory should not grow with their length beyond their KV, and small requests should not have to wait for
them to end (`long_prefill_token_threshold` leaves room for them in every batch; without it vLLM serves first come,
first served). `peak` is the most memory the process held, `growth` what of it came during the turn.
"""

from __future__ import annotations

import statistics
from typing import Any

from turns import Played, checkpoint, difference, finish, parser, play
from workloads import Batches, best_of_n, long_solution

WAYS = ["ours", "floor"]
SMALL = 8
MB = 1e6


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--long", type=int, nargs="+", default=[32_000, 4_000], help="tokens of the long solutions")
    arguments = made.parse_args()
    longs = [2_000, 500] if arguments.quick else arguments.long
    options = {"max_model_len": max(longs) + 8, "max_num_batched_tokens": 2048, "long_prefill_token_threshold": 512}
    with checkpoint(arguments, **options) as what:
        tag = what.tokens.tag
        turns: list[Batches] = [[best_of_n(99, tag, SMALL, 1)[0]]]
        for beside in (longs[1:], longs):  # the shorter ones first: memory once taken stays with the process
            small = best_of_n(len(turns), tag, SMALL, 1)[0]
            turns.append([[long_solution(seed, tag, n) for seed, n in enumerate(beside)] + small])
        turns.append([best_of_n(7, tag, SMALL, 1)[0]])  # nothing beside them
        played = play(what, WAYS, turns, timed=True)
    cases = {"with 4k": (1, len(longs) - 1), "with 32k and 4k": (2, len(longs)), "alone": (3, 0)}
    table = [{"way": way, "case": case, **_row(played, way, *which)} for case, which in cases.items() for way in WAYS]
    print(f"{'':8}{'small ones':18}{'p50 s':>8}{'last s':>8}{'all s':>8}{'peak MB':>10}{'growth MB':>11}")
    for row in table:
        print(
            f"{row['way']:8}{row['case']:18}{row['small_p50_s']:8.2f}{row['small_last_s']:8.2f}{row['all_s']:8.2f}"
            f"{row['peak_mb']:10.0f}{row['growth_mb']:11.0f}"
        )
    ours, floor = (played[way][2].peak for way in WAYS)
    peaks = {"peak": (ours[1] - floor[1]) / MB, "growth": ((ours[1] - ours[0]) - (floor[1] - floor[0])) / MB}
    print(f"with {longs} tokens, ours - floor: peak {peaks['peak']:+.0f} MB, growth {peaks['growth']:+.0f} MB")
    document = {
        "benchmark": "tail",
        "long": longs,
        "table": table,
        "ours_minus_floor_mb": peaks,
        "largest_score_difference": difference(played),
    }
    finish(document, what, arguments.output)


def _row(played: Played, way: str, turn: int, long: int) -> dict[str, Any]:
    found = played[way][turn]
    small = found.finished[long:]
    return {
        "small_p50_s": statistics.median(small),
        "small_last_s": max(small),
        "all_s": max(found.finished),
        "peak_mb": found.peak[1] / MB,
        "growth_mb": (found.peak[1] - found.peak[0]) / MB,
    }


if __name__ == "__main__":
    main()
