"""Score every architecture of the installed vLLM against its own whole head; `make sweep`.

One row per architecture in sweep/results.jsonl. Architectures that already have a row for the installed vLLM are
skipped, so an interrupted sweep goes on where it stopped; --again repeats those that are not verified, --new measures
only those that no vLLM has a row for.
"""

from __future__ import annotations

import argparse

from sweep.architectures import registered
from sweep.batches import record
from sweep.rows import SCORE_ROWS, Row, last_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", help="only these, whether they have a row or not")
    parser.add_argument("--again", action="store_true", help="repeat what is not verified")
    parser.add_argument("--new", action="store_true", help="only those that have no row, of whichever vLLM")
    parser.add_argument("--batch", type=int, default=8, help="architectures per process")
    args = parser.parse_args()
    record("score", args.architectures or _to_score(args.again, args.new), args.batch, SCORE_ROWS, _summary)


def _to_score(again: bool, new: bool) -> list[str]:
    from vllm import __version__

    done = {
        name
        for name, row in last_rows(SCORE_ROWS).items()
        if new or (row["vllm"] == __version__ and not (again and row["outcome"] in ("failed", "stopped")))
    }
    return [name for names in registered().values() for name in names if name not in done]


def _summary(row: Row) -> str:
    return f"{row['architecture']:45} {row['outcome']:9} {row.get('why', '')[:150]}"


if __name__ == "__main__":
    main()
