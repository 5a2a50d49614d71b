"""`make gpu`'s program as it runs without a GPU: two of its pieces, one with an engine, one that needs two GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from conftest import ROOT


def test_a_check_passes_and_what_needs_gpus_says_so(tmp_path):
    output = tmp_path / "gpu.json"
    line = ["--tiny", "--output", str(output), "--weights", str(tmp_path), "check mistral", "check tp2"]
    ran = subprocess.run(
        [sys.executable, "-m", "gpu", *line],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks"), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    pieces = json.loads(output.read_text("utf-8"))["pieces"]
    assert {name: result["outcome"] for name, result in pieces.items()} == {
        "check tp2": "not possible here",
        "check mistral": "passed",
    }
    answer = pieces["check mistral"]["answer"]
    assert answer["cached at first"] == [0, 0]
    assert answer["cached again"][1] > 600  # of 700 tokens
    assert "needs two GPUs" in ran.stdout
