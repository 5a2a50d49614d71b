"""W4, tail: very long solutions beside ordinary ones. How much memory, and how long do the small ones wait?

One turn sends a solution of 32k tokens, one of 4k and ordinary ones, in that order. vLLM computes long prompts in
chunks, so memory should not grow with their length beyond their KV, and small requests should not have to wait for
them to end (`long_prefill_token_threshold` leaves room for them in every batch; without it vLLM serves first come,
first served). `peak` is the most memory the process held, `growth` what of it came during the turn. `floor#2` is a
second boot of `floor`: as far as those two lie apart, a difference between `ours` and `floor` means nothing.
"""

from __future__ import annotations

import statistics
from typing import Any

from engines import Replay
from turns import Played, checkpoint, difference, finish, parser, play
from workloads import Batches, best_of_n, long_solution

WAYS = ["ours", "floor", "floor#2"]
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
        # glibc left as it is: told to keep freed memory, as elsewhere, a process holds for good what its start-up took
        # and gave back, and that would be counted as the solution's.
        played = play(what, WAYS, turns, timed=True, keep_freed=False)
    cases = {"with 4k": (1, len(longs) - 1), "with 32k and 4k": (2, len(longs)), "alone": (3, 0)}
    table = [{"way": way, "case": case, **_row(played, way, *which)} for case, which in cases.items() for way in WAYS]
    print(f"{'':8}{'small ones':18}{'p50 s':>8}{'last s':>8}{'all s':>8}{'peak MB':>10}{'growth MB':>11}")
    for row in table:
        print(
            f"{row['way']:8}{row['case']:18}{row['small_p50_s']:8.2f}{row['small_last_s']:8.2f}{row['all_s']:8.2f}"
            f"{row['peak_mb']:10.0f}{row['growth_mb']:11.0f}"
        )
    memory = {way: _memory(played[way][2]) for way in WAYS}
    for way, other in (("ours", "floor"), ("floor#2", "floor")):
        memory[f"{way} - {other}"] = {name: memory[way][name] - memory[other][name] for name in memory[way]}
    print(f"\nwith {' and '.join(map(str, longs))} tokens")
    print(f"{'':16}{'peak MB':>10}{'growth MB':>11}")
    for name, found in memory.items():
        sign = "+" if " - " in name else ""
        print(f"{name:16}{found['peak_mb']:{sign}10.0f}{found['growth_mb']:{sign}11.0f}")
    document = {
        "benchmark": "tail",
        "long": longs,
        "table": table,
        "memory": memory,
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
        **_memory(found),
    }


def _memory(found: Replay) -> dict[str, float]:
    before, most = found.peak
    return {"peak_mb": most / MB, "growth_mb": (most - before) / MB}


if __name__ == "__main__":
    main()
