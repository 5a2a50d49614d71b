"""W2, search: what does a search cost that sends the same prefixes again and again?

Beam search (4 beams, the 2 best fork) and DVTS (2 trees of 4, each tree keeps its best) are replayed: each round sends
every beam's whole prefix. Step lengths are those of real solutions. vLLM's native route computes every prefix whole;
ours computes what is new, and the last, partial block, because vLLM reuses whole blocks.

computed / ideal: tokens computed by ours over those that whole-block reuse leaves (counted on the prompts alone).
share: how much of the saving in tokens (sent / computed) becomes a saving in time (native / ours).
floor_reuse is vLLM's plain embedding of the same prompts with prefix caching: the time that reuse leaves to anybody.
"""

from __future__ import annotations

import statistics
from functools import partial
from itertools import accumulate
from typing import Any

from turns import Played, checkpoint, difference, faster, finish, parser, play
from workloads import Batches, beam_search, dvts, ideal, sent, unique

WAYS = ["ours", "native", "floor_reuse"]
SLOW = ["logprobs", "transformers"]  # at the first number of rounds only
SEARCHES = {"beam search": beam_search, "DVTS": dvts}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, nargs="+", default=[12, 24, 40])
    made.add_argument("--repeats", type=int, default=3, help="searches of each kind and number of rounds")
    made.set_defaults(vocabulary=32_000)  # Mistral's, as the lengths; time is then spent in layers, as in a 7B model
    arguments = made.parse_args()
    rounds, repeats = ([2, 3], 1) if arguments.quick else (arguments.rounds, arguments.repeats)
    with checkpoint(arguments, max_model_len=8192, max_num_batched_tokens=8192) as what:
        kinds: list[tuple[str, int] | None] = [None]
        turns: list[Batches] = [beam_search(3, 99, what.tokens.tag)]  # warms up
        for repeat in range(repeats):
            for count in rounds:
                for name, make in SEARCHES.items():
                    kinds.append((name, count))
                    turns.append(make(count, repeat, what.tokens.tag))
        slow = play(what, ["ours", *SLOW], [turns[0], turns[kinds.index(("beam search", rounds[0]))]])
        played = play(what, WAYS, turns)
    table = [
        _row(played, turns, [n for n, kind in enumerate(kinds) if kind == (name, count)], arguments.block_size)
        | {"search": name, "rounds": count}
        for name in SEARCHES
        for count in rounds
    ]
    _show(table)
    peers = {way: faster(slow, "ours", way)["median"] for way in SLOW}
    print(f"beam search of {rounds[0]} rounds: " + ", ".join(f"{way} / ours {r:.1f}" for way, r in peers.items()))
    print(f"largest difference of scores: {max(difference(played), difference(slow)):.1e}")
    document = {
        "benchmark": "search",
        "table": table,
        "slow_peers_over_ours": {"rounds": rounds[0], **peers},
        "largest_score_difference": max(difference(played), difference(slow)),
    }
    finish(document, what, arguments.output)


def _row(played: Played, turns: list[Batches], numbers: list[int], block: int) -> dict[str, Any]:
    """Sums over the searches of one kind."""
    total = {way: sum(played[way][n].seconds for n in numbers) for way in WAYS}
    count = partial(_summed, turns, numbers)
    row: dict[str, Any] = {
        "sent": count(sent),
        "unique": count(unique),
        "ideal": count(partial(ideal, block=block)),
        "computed": count(sent) - sum(sum(played["ours"][n].cached) for n in numbers),
        **{f"{way}_s": seconds for way, seconds in total.items()},
        "native_over_ours": statistics.median(played["native"][n].seconds / played["ours"][n].seconds for n in numbers),
        "ours_over_floor_reuse": total["ours"] / total["floor_reuse"],
    }
    row["clock"] = {way: _clock(played, way, numbers) for way in ("native", "ours")}
    row["computed_over_ideal"] = row["computed"] / row["ideal"]
    row["share"] = row["native_over_ours"] / (row["sent"] / row["computed"])
    return row


def _clock(played: Played, way: str, numbers: list[int]) -> list[float]:
    """Seconds since the start after each round, mean over the searches: a straight line if rounds cost the same."""
    each = zip(*(played[way][n].each for n in numbers), strict=True)
    return [round(seconds / len(numbers), 4) for seconds in accumulate(map(sum, each))]


def _summed(turns: list[Batches], numbers: list[int], count: Any) -> int:
    return sum(count(turns[n]) for n in numbers)


def _show(table: list[dict[str, Any]]) -> None:
    columns = {
        "rounds": "{:d}", "sent": "{:,d}", "unique": "{:,d}", "computed": "{:,d}", "computed_over_ideal": "{:.3f}",
        "native_s": "{:.1f}", "ours_s": "{:.2f}", "floor_reuse_s": "{:.2f}", "native_over_ours": "{:.1f}",
        "share": "{:.2f}",
    }  # fmt: skip
    print(f"{'search':12}" + "".join(f"{name.replace('_over_', '/'):>15}" for name in columns))
    for row in table:
        print(f"{row['search']:12}" + "".join(f"{form.format(row[name]):>15}" for name, form in columns.items()))


if __name__ == "__main__":
    main()
