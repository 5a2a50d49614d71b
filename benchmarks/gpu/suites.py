"""Tests of tests/ that say something new on a GPU, by pytest, in float32 (tests/conftest.py has what a GPU needs).

Left out are those that need no engine, those that start servers, and those of what vLLM's CPU build alone has.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import torch

from gpu.findings import NotPossible
from gpu.machine import ROOT

SUITES = {
    # Chunks that end anywhere, prefixes from the cache, preemption: scores against transformers.
    "scores": ["e2e/test_scores.py", "e2e/test_prefix_cache.py", "e2e/test_preemption.py"],
    # Windows, chunks and shared KV: scores against an engine without a cache.
    "attention": ["e2e/test_reuse_by_attention.py"],
}
NEEDED = ("pytest", "hypothesis")


def run_tests(name: str) -> dict[str, Any]:
    """Counts of the tests of a suite, and the names of those that failed. Raises NotPossible without CUDA or pytest."""
    if not torch.cuda.is_available():
        raise NotPossible("needs CUDA: on a CPU, `make test` runs these tests")
    if absent := [package for package in NEEDED if find_spec(package) is None]:
        raise NotPossible(f"needs {' and '.join(absent)}: pip install {' '.join(absent)}")
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        files = [str(ROOT / "tests" / file) for file in SUITES[name]]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if not report.exists():
            raise RuntimeError(f"pytest ended with status {status} and wrote no report")
        return count(report.read_text("utf-8"))


def count(report: str) -> dict[str, Any]:
    """What pytest's JUnit report says, as a piece's answer."""
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    answer: dict[str, Any] = {"tests": len(cases), "passed": len(cases) - len(failed) - len(skipped)}
    if failed:
        answer["failed"] = "; ".join(f"{case.get('classname')}::{case.get('name')}" for case in failed)
    elif not answer["passed"]:
        answer["failed"] = "no test ran"
    return answer
