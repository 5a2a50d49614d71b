"""The plot of W2 from results/search.json: time against rounds, and tokens computed against tokens unique."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from svg import Chart, Line, page
from turns import RESULTS


def charts(document: dict, search: str = "beam search") -> list[Chart]:
    """Left: seconds since the start after each round of the longest search. Right: per number of rounds, tokens."""
    rows = sorted((row for row in document["table"] if row["search"] == search), key=lambda row: row["rounds"])
    clock = rows[-1]["clock"]
    time = [Line(way, [(0, 0), *enumerate(clock[way], start=1)]) for way in ("native", "ours")]
    native = Line("native", [(row["unique"], row["sent"]) for row in rows], dots=True)
    ours = Line("ours", [(row["unique"], row["computed"]) for row in rows], dots=True)
    most = rows[-1]["unique"]
    once = Line("each token once", [(0, 0), (most, most)], dashed=True)
    return [
        Chart(f"{search}: time", "rounds", "seconds", time),
        Chart(f"{search}: tokens, {rows[0]['rounds']} to {rows[-1]['rounds']} rounds", "tokens unique",
              "tokens computed", [native, ours, once]),
    ]  # fmt: skip


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--input", type=Path, default=RESULTS / "search.json")
    made.add_argument("--output", type=Path, default=RESULTS / "search.svg")
    arguments = made.parse_args()
    arguments.output.write_text(page(charts(json.loads(arguments.input.read_text()))), encoding="utf-8")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
