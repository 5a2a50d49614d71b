"""What host_http.py sends: solutions of PRMBench's texts, and the bodies that post them in each way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKED = 32  # solutions in a request
_ROWS = Path(__file__).parents[1] / "tests" / "data" / "prmbench-36.jsonl"

Solution = tuple[str, list[str]]


@dataclass
class Bodies:
    """What a plain way posts, and how its answers become scores."""

    path: str
    bodies: list[bytes]
    scores: Callable[[Any], list[list[float]]]


def solutions() -> list[Solution]:
    """Texts of the PRMBench rows that the tests keep; each solution is a row's two processes, one after the other.

    So they are as long as PRMBench's mean solution (data/prm-lengths.csv); those of the 36 rows are half as long.
    """
    lines = _ROWS.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    orders = (("original", "modified"), ("modified", "original"))
    return [
        (row["original_question"].strip(), [step.strip() for kind in kinds for step in row[f"{kind}_process"]])
        for row in rows
        for kinds in orders
    ]


def whole_text(question: str, steps: list[str]) -> str:
    """As the recipe writes it; that it does is seen when scores are compared."""
    return f"{question} " + "\n".join(f"Step {k}: {step} ки" for k, step in enumerate(steps, 1))


def bodies_of(way: str, batch: list[Solution], token_ids: Callable[[Solution], list[int]]) -> Bodies:
    if way.startswith("embeddings"):
        inputs = [whole_text(*one) if way == "embeddings text" else token_ids(one) for one in batch]
        documents = [{"model": "prm", "input": prompt, "encoding_format": "float"} for prompt in inputs]
        return Bodies("/v1/embeddings", _json(documents), lambda answer: [answer["data"][0]["embedding"]])
    items = [{"question": question, "steps": steps} for question, steps in batch]
    if way == "score packed":
        items = [{"inputs": items[i : i + PACKED]} for i in range(0, len(items), PACKED)]
    return Bodies("/v1/prm/score", _json(items), lambda answer: [entry["step_scores"] for entry in answer["data"]])


def _json(documents: list[Any]) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]
