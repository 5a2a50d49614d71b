"""Rows of results: one JSON line per architecture, in a file for each measure.

Knows nothing of how a row is measured or shown. A file only grows; the last row of an architecture is the one that
counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # always "architecture" and "vllm" (its version); "why" if the measure failed or could not run

SCORE_ROWS = Path(__file__).with_name("results.jsonl")  # of score.py
GENERATION_ROWS = Path(__file__).with_name("oracle.jsonl")  # of generation.py


def last_rows(path: Path) -> dict[str, Row]:
    """The last row of each architecture, by its name; none if there is no such file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["architecture"]: row for row in map(json.loads, lines)}


def append(path: Path, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
