"""What does a softmax over the whole vocabulary cost, where prefixes are reused and where they are not?

A recipe whose score is a share of the whole vocabulary (Granite's) runs the whole output head: for every token where a
prefix cache is on (`vocabulary`), at the steps only where it is off (`vocabulary_whole`). Beside them `ours` and
`whole`, the same engines with two scoring columns. Solutions are those of best_of_n.py, eight to a question; a search
sends the prefixes of 4 beams again and again, and its ideal is what the cache leaves to compute.

predicted: what `vocabulary` takes over `ours` if a token's time were its matrix products, (layers + head) / layers. For
a model of yours: 1 + vocabulary * width / (parameters without the two embeddings).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from turns import Checkpoint, Played, checkpoint, difference, faster, finish, parser, play
from workloads import Batches, beam_search, best_of_n

PAIRS = {"vocabulary": "ours", "vocabulary_whole": "whole"}  # a way, and the same with two columns
WAYS = [*PAIRS.values(), *PAIRS]
SEARCHED = ["ours", "vocabulary", "vocabulary_whole"]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--turns", type=int, default=30, help="questions (default: %(default)s)")
    options.add_argument("--searches", type=int, default=5)
    options.add_argument("--rounds", type=int, default=12)
    # 38M weights in layers, 25M in the head; the other shape has 10M and 49M. Columns and the whole head are summed by
    # two kernels, and the benchmark's logits are large: in float32 their shares differ by up to 1.2e-5.
    options.set_defaults(vocabulary=32_000, tolerance=3e-5)
    arguments = options.parse_args()
    turns, searches, rounds = (2, 1, 2) if arguments.quick else (arguments.turns, arguments.searches, arguments.rounds)
    with checkpoint(arguments, max_model_len=8192) as model:
        tag = model.tokens.tag
        candidates: list[Batches] = [best_of_n(seed, tag) for seed in range(turns + 1)]
        played = play(model, WAYS, candidates)
        searched = play(model, SEARCHED, [beam_search(rounds, seed, tag) for seed in range(searches + 1)])
        document = {"benchmark": "whole_vocabulary", "predicted": _predicted(model), **_measured(played, searched)}
        document["largest_score_difference"] = max(difference(played), difference(searched))
    _show(document)
    finish(document, model, arguments.output)


def _predicted(model: Checkpoint) -> float | None:
    """None for a checkpoint of which not all is known here."""
    config = json.loads((Path(model.model) / "config.json").read_text(encoding="utf-8"))
    if model.parameters is None:
        return None
    head = config["vocab_size"] * config["hidden_size"]  # tied: the one embedding
    return model.parameters / (model.parameters - head)


def _measured(played: Played, searched: Played) -> dict[str, Any]:
    return {
        "seconds_over_two_columns": {way: faster(played, other, way) for way, other in PAIRS.items()},
        "processor_over_two_columns": {way: faster(played, other, way, "processor") for way, other in PAIRS.items()},
        "search_over_two_columns": faster(searched, "ours", "vocabulary"),
        "search_processor_over_two_columns": faster(searched, "ours", "vocabulary", "processor"),
        "search_without_reuse_over_with": faster(searched, "vocabulary", "vocabulary_whole"),
        "search_processor_without_reuse_over_with": faster(searched, "vocabulary", "vocabulary_whole", "processor"),
        "pooler_share": {
            way: sum(turn.pooler for turn in turns.values()) / sum(turn.seconds for turn in turns.values())
            for way, turns in played.items()
        },
    }


def _show(document: dict[str, Any]) -> None:
    for what, prefix in (("seconds", ""), ("processor seconds", "processor_")):
        of = "processor_over_two_columns" if prefix else "seconds_over_two_columns"
        for way, ratio in document[of].items():
            print(f"best of 8, {what} of {way} over {PAIRS[way]}: {_quartiles(ratio)}")
        over, without = f"search_{prefix}over_two_columns", f"search_{prefix}without_reuse_over_with"
        print(f"search, {what} of vocabulary over ours: {_quartiles(document[over])}")
        print(f"search, {what} without reuse over with: {_quartiles(document[without])}")
    print(f"predicted for every token: {document['predicted']}")
    print("pooler's share of the time: " + ", ".join(f"{w} {s:.1%}" for w, s in document["pooler_share"].items()))
    print(f"largest difference of scores: {document['largest_score_difference']:.1e}")


def _quartiles(ratio: dict[str, float]) -> str:
    return "{median:.3f} ({quarter:.3f} to {three_quarters:.3f})".format(**ratio)


if __name__ == "__main__":
    main()
