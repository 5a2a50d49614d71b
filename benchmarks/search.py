"""W2, search: what does a search cost that sends the same prefixes again and again?

Beam search (4 beams, the 2 best fork) and DVTS (2 trees of 4, each tree keeps its best) are replayed: each round sends
every beam's whole prefix. Step lengths are those of real solutions. vLLM's native route computes every prefix whole;
ours computes what is new, and the last, partial block, because vLLM reuses whole blocks.

computed / ideal: tokens computed by ours over those that whole-block reuse leaves (counted on the prompts alone).
share: how much of the saving in tokens (sent / computed) becomes a saving in time (native / ours).
of forward: the same with nothing but the seconds inside the model, on both sides: what `share` would be if scheduling,
scoring and everything else in Python took no time. Less than 1 where the model takes longer for a token of ours, in a
batch of some hundred tokens that each attend to a long prefix, than for one of thousands, most of them early ones.
floor_reuse is vLLM's plain embedding of the same prompts with prefix caching: the time that reuse leaves to anybody.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from turns import Played, checkpoint, difference, faster, finish, parser, play
from workloads import Batches, beam_search, dvts, ideal, sent, unique

WAYS = ["ours", "native", "floor_reuse"]
SLOW = ["logprobs", "transformers"]  # at the first number of rounds only
SEARCHES = {"beam search": beam_search, "DVTS": dvts}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, nargs="+", default=[12, 24, 40])
    options.add_argument(
        "--repeats",
        type=int,
        default=3,
        help="searches of each kind of the longest; of shorter ones more, as many rounds",
    )
    # Mistral's vocabulary, as the lengths: time is then spent in layers, as in a 7B model. Compiled: vLLM's default.
    options.set_defaults(vocabulary=32_000, compile=True)
    arguments = options.parse_args()
    rounds, repeats = ([2, 3], 1) if arguments.quick else (arguments.rounds, arguments.repeats)
    with checkpoint(arguments, max_model_len=8192, max_num_batched_tokens=8192) as model:
        kinds, turns = _searches(rounds, repeats, model.tokens.tag)
        warm_up = beam_search(3, 98, model.tokens.tag)
        slow = play(model, ["ours", *SLOW], [warm_up, turns[kinds.index(("beam search", rounds[0]))]])
        played = play(model, WAYS, turns)
    table = [
        _row(played, turns, [n for n, kind in enumerate(kinds) if kind == (name, count)], arguments.block_size)
        | {"search": name, "rounds": count}
        for name in SEARCHES
        for count in rounds
    ]
    _show(table)
    peers = {way: faster(slow, "ours", way)["median"] for way in SLOW}
    largest_difference = max(difference(played), difference(slow))
    print(f"beam search of {rounds[0]} rounds: " + ", ".join(f"{way} / ours {r:.1f}" for way, r in peers.items()))
    print(f"largest difference of scores: {largest_difference:.1e}")
    document = {"benchmark": "search", "table": table, "slow_peers_over_ours": {"rounds": rounds[0], **peers}}
    finish({**document, "largest_score_difference": largest_difference}, model, arguments.output)


def _searches(rounds: list[int], repeats: int, tag: int) -> tuple[list[tuple[str, int] | None], list[Batches]]:
    """The kind (name, rounds) of every turn, and the turns. As many rounds in all of each kind as of the longest."""
    kinds: list[tuple[str, int] | None] = [None]
    # Turn 0 warms up, with many sizes of batches: the first search of a process can take twice as long as others.
    turns: list[Batches] = [beam_search(max(rounds) // 2 + 1, 99, tag)]
    for count in rounds:
        for repeat in range(repeats * max(rounds) // count):
            for name, make in SEARCHES.items():
                kinds.append((name, count))
                turns.append(make(count, repeat, tag))
    return kinds, turns


def _row(played: Played, turns: list[Batches], numbers: list[int], block: int) -> dict[str, Any]:
    """Means over the searches of one kind."""

    def mean(of: Callable[[int], float]) -> float:
        return statistics.mean(of(n) for n in numbers)

    def slower(seconds: str) -> float:
        """The native route's over ours, search by search."""
        pairs = [(getattr(played["native"][n], seconds), getattr(played["ours"][n], seconds)) for n in numbers]
        return statistics.median(native / ours for native, ours in pairs)

    tokens = {
        "sent": mean(lambda n: sent(turns[n])),
        "unique": mean(lambda n: unique(turns[n])),
        "ideal": mean(lambda n: ideal(turns[n], block)),
        "computed": mean(lambda n: sent(turns[n]) - sum(played["ours"][n].cached)),
    }
    seconds = {way: mean(lambda n, way=way: played[way][n].seconds) for way in WAYS}
    saved = tokens["sent"] / tokens["computed"]
    return {
        "searches": len(numbers),
        **{name: round(count) for name, count in tokens.items()},
        **{f"{way}_s": value for way, value in seconds.items()},
        "native_over_ours": slower("seconds"),
        "ours_over_floor_reuse": seconds["ours"] / seconds["floor_reuse"],
        "computed_over_ideal": tokens["computed"] / tokens["ideal"],
        "share": slower("seconds") / saved,
        "share_of_forward": slower("forward") / saved,
        "forward_of_ours": mean(lambda n: played["ours"][n].forward) / seconds["ours"],
        "clock": {way: _clock(played, way, numbers) for way in ("native", "ours")},
    }


def _clock(played: Played, way: str, numbers: list[int]) -> list[float]:
    """Seconds since the start after each round, mean over the searches: a straight line if rounds cost the same."""
    each = zip(*(played[way][n].each for n in numbers), strict=True)
    return [round(seconds / len(numbers), 4) for seconds in accumulate(map(sum, each))]


def _show(table: list[dict[str, Any]]) -> None:
    columns = {
        "rounds": "{:d}", "searches": "{:d}", "sent": "{:,d}", "unique": "{:,d}", "computed": "{:,d}",
        "computed_over_ideal": "{:.3f}", "native_s": "{:.1f}", "ours_s": "{:.2f}", "floor_reuse_s": "{:.2f}",
        "native_over_ours": "{:.1f}", "share": "{:.2f}", "share_of_forward": "{:.2f}",
    }  # fmt: skip
    print(f"{'search':12}" + "".join(f"{name.replace('_over_', '/').replace('share_', ''):>15}" for name in columns))
    for row in table:
        print(f"{row['search']:12}" + "".join(f"{form.format(row[name]):>15}" for name, form in columns.items()))


if __name__ == "__main__":
    main()
