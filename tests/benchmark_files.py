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


def rated_step(*candidates, chosen=0, **fields):
    """A step of a PRM800K row. candidates: (text, rating) pairs; their texts are written as the scores they get."""
    completions = [{"text": str(text), "rating": rating, "flagged": None} for text, rating in candidates]
    return {"completions": completions, "human_completion": None, "chosen_completion": chosen, **fields}


def rated(*steps, finish="solution", given=None):
    """A PRM800K row. given: the texts of the solution that was rated, which phase 2 has."""
    question = {"problem": "q", "ground_truth_answer": "7", "pre_generated_steps": given}
    return {"question": question, "label": {"steps": list(steps), "total_time": 1, "finish_reason": finish}}


def tagged(question, *steps, task="GSM8K"):
    """A Math-Shepherd row. steps: (text, sign) pairs."""
    texts = {
        name: f"{question} " + "\n".join(f"{text} {'ки' if name == 'input' else sign}" for text, sign in steps)
        for name in ("input", "label")
    }
    return {**texts, "task": task}
