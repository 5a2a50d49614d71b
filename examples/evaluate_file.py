"""Measure a PRM on a file in ProcessBench's format, and write a page that shows where it errs.

    python examples/evaluate_file.py processbench.jsonl report.html [http://localhost:8000]

Without a file, 100 held-out problems of the tiny PRM's own kind are made, and measured.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

from arithmetic import is_held_out, solution

from vllm_prm import PRM, PRMClient, write_report
from vllm_prm.evaluate import evaluate, load_benchmark, score_benchmark
from vllm_prm.report import benchmark_rows

MODEL = Path(__file__).parent / "tiny-prm"


def made_up(path: Path, count: int = 100) -> Path:
    """A file of `count` solutions, about half of them with one mistake."""
    rng = random.Random(3)
    with path.open("w", encoding="utf-8") as file:
        while count:
            made = solution(rng, mistakes=rng.randint(0, 1))
            if is_held_out(made.question):
                label = -1 if made.first_error is None else made.first_error
                file.write(json.dumps({"problem": made.question, "steps": made.steps, "label": label}) + "\n")
                count -= 1
    return path


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        benchmark = load_benchmark(arguments[0] if arguments else made_up(Path(folder) / "arithmetic.jsonl"))
    with PRMClient(arguments[2]) if len(arguments) > 2 else PRM(str(MODEL), dtype="float32") as prm:
        scores = score_benchmark(benchmark, prm, progress=False)
    print(evaluate(benchmark, scores).table())
    if len(arguments) > 1:
        print(write_report(arguments[1], benchmark_rows(benchmark, scores), title="Where the PRM errs"))


if __name__ == "__main__":  # vLLM starts processes that import this file again
    main(sys.argv[1:])
