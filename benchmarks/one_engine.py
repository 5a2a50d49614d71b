"""One engine that generates and scores: what does scoring by generation cost beside a pooling engine?

`generated` asks an engine that generates text for one token after each step that it has not read yet; `ours` is the
pooling engine, which reads all steps of a prompt in one pass. Best of N cold: nothing of the solutions is known.
Search: each round sends every beam's whole prefix.

computed / unique: tokens computed over those that no other prompt of the turn begins with. The generated way computes
the last, partial block before every step again, because vLLM reuses whole blocks.
memory: what an engine process holds, weights and KV cache included, before it works. Two engines, one that generates
and one that scores, hold both; one that does both holds the first.
"""

from __future__ import annotations

import statistics
from typing import Any

from turns import Played, checkpoint, difference, faster, finish, parser, play
from workloads import Batches, beam_search, best_of_n, sent, unique

WAYS = ["ours", "generated"]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--candidates", type=int, default=8)
    options.add_argument("--rounds", type=int, nargs="+", default=[12, 24, 40])
    options.add_argument("--turns", type=int, default=8, help="of best of N")
    options.add_argument("--repeats", type=int, default=3, help="searches of each length")
    options.set_defaults(vocabulary=32_000, compile=True)  # as search.py
    # The softmax over the vocabulary rounds once more, and the random model's scoring tokens have large logits, for
    # which float32 has large steps: 1.4e-5 apart was seen.
    options.set_defaults(tolerance=1e-4)
    arguments = options.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.turns, arguments.repeats = [3], 2, 1
    with checkpoint(arguments, max_model_len=8192, max_num_batched_tokens=8192) as model:
        kinds, turns = _turns(arguments, model.tokens.tag)
        played = play(model, WAYS, turns)
    rows = [_row(kind, played, turns, kinds, arguments.block_size) for kind in dict.fromkeys(kinds[1:])]
    megabytes = {way: round(statistics.median(turn.peak[0] for turn in played[way].values()) / 2**20) for way in WAYS}
    _show(rows, megabytes)
    document = {"benchmark": "one_engine", "table": rows, "megabytes": megabytes}
    finish({**document, "largest_score_difference": difference(played)}, model, arguments.output)


def _turns(arguments: Any, tag: int) -> tuple[list[str], list[Batches]]:
    """The kind of every turn, and the turns; turn 0 warms up."""
    kinds, turns = ["warm-up"], [beam_search(max(arguments.rounds) // 2 + 1, 99, tag)]
    for seed in range(arguments.turns):
        kinds.append(f"best of {arguments.candidates}, cold")
        turns.append(best_of_n(seed, tag, 1, arguments.candidates))
    for rounds in arguments.rounds:
        for seed in range(arguments.repeats):
            kinds.append(f"search of {rounds} rounds")
            turns.append(beam_search(rounds, seed, tag))
    return kinds, turns


def _row(kind: str, played: Played, turns: list[Batches], kinds: list[str], block: int) -> dict[str, Any]:
    numbers = [number for number, name in enumerate(kinds) if name == kind]
    its = {way: {number: played[way][number] for number in numbers} for way in WAYS}
    steps = sum(len(scores) // 2 for number in numbers for scores in its["ours"][number].scores)
    computed = {way: sum(sent(turns[n]) - sum(turn.cached) for n, turn in its[way].items()) for way in WAYS}
    tokens = sum(unique(turns[number]) for number in numbers)
    return {
        "kind": kind,
        "turns": len(numbers),
        "unique": tokens,
        "steps_sent": steps,
        **{f"computed_{way}": count for way, count in computed.items()},
        "computed_over_unique": computed["generated"] / tokens,
        **{f"seconds_{way}": sum(turn.seconds for turn in its[way].values()) for way in WAYS},
        "generated_over_ours": faster(its, "ours", "generated"),
        "block": block,
    }


def _show(rows: list[dict[str, Any]], megabytes: dict[str, int]) -> None:
    print(
        f"{'':22}{'turns':>7}{'unique':>9}{'by ours':>9}{'generated':>11}{'s, ours':>9}{'s, gen.':>9}{'gen./ours':>11}"
    )
    for row in rows:
        print(
            f"{row['kind']:22}{row['turns']:7d}{row['unique']:9,d}{row['computed_ours']:9,d}"
            f"{row['computed_generated']:11,d}{row['seconds_ours']:9.2f}{row['seconds_generated']:9.2f}"
            f"{row['generated_over_ours']['median']:11.2f}"
        )
    both = megabytes["generated"]
    print(f"memory: {both} MB for one engine that does both, {both + megabytes['ours']} MB for two engines")


if __name__ == "__main__":
    main()
