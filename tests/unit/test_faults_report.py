"""The table of docs/reliability.md is that of benchmarks/results/faults.json, and says what did not hold."""

from __future__ import annotations

import json
import sys

from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import tables
from faults.report import BEGIN, ROWS, markdown

RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"


def test_the_page_has_the_results(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text("utf-8"), "utf-8")
    tables.into_file(page, markdown(json.loads(RESULTS.read_text("utf-8"))), BEGIN)
    assert page.read_text("utf-8") == PAGE.read_text("utf-8"), (
        "make soak ARGS='--merge benchmarks/results/faults.json' writes it"
    )


def test_what_did_not_hold_is_said():
    document = json.loads(RESULTS.read_text("utf-8"))
    name = next(iter(document["pieces"]))
    document["pieces"] = {name: {**document["pieces"][name], "outcome": "failed", "why": "a line\nscores differ"}}
    assert "no: scores differ" in markdown(document)
    crashed = {name: {**document["pieces"][name], "outcome": "crashed", "answer": None}}
    assert f"| {name} " in markdown({**document, "pieces": crashed})


def test_every_piece_has_a_row():
    from faults.work import PIECES

    assert ROWS.keys() == PIECES.keys()
