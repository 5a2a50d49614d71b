"""Benchmark files to evaluate on, whose steps are written as the scores they get."""

from __future__ import annotations

import json


def write(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def solution(scores, label, problem="q"):
    """A ProcessBench row whose steps are written as their scores."""
    return {"id": "x-0", "problem": problem, "steps": [str(s) for s in scores], "label": label}


def plain(benchmark):
    return [tuple(map(float, steps)) for _, steps in benchmark.solutions]


def prm_row(steps, wrong, kind="circular", idx="a"):
    return {
        "modified_question": "q",
        "modified_process": steps,
        "error_steps": wrong,
        "classification": kind,
        "idx": idx,
    }
