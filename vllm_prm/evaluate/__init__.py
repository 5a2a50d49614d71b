"""The field's benchmarks of process reward models.

    benchmark = load_benchmark(["gsm8k.json", "math.json"])   # the format is known by its fields
    scores = score_benchmark(benchmark, prm)                  # one entry per solution of benchmark.solutions
    result = evaluate(benchmark, scores)                      # evaluate(benchmark, prm) does both
    print(result.table())

ProcessBench asks for the first wrong step, PRMBench for every wrong step, best-of-N for the best of many solutions.
PRM800K, Math-Shepherd, TRL's stepwise supervision and VisualProcessBench say of each step whether it is right
(`labelled`). Questions may have images (`pictures`).
A benchmark is one file here and one entry in `loading.FORMATS`; `benchmark` says what it has to declare.
Results are typed, have `table()` for a terminal and `to_dict()` for JSON; percentages are 0 to 100.
"""

from vllm_prm.evaluate.benchmark import Benchmark, Result
from vllm_prm.evaluate.bestofn import BestOfNResult, evaluate_best_of_n
from vllm_prm.evaluate.labelled import LabelledResult
from vllm_prm.evaluate.loading import load_benchmark
from vllm_prm.evaluate.prmbench import PRMBenchResult, evaluate_prmbench
from vllm_prm.evaluate.processbench import ProcessBenchResult, best_threshold, evaluate_processbench
from vllm_prm.evaluate.running import evaluate, score_benchmark

__all__ = [
    "Benchmark",
    "BestOfNResult",
    "LabelledResult",
    "PRMBenchResult",
    "ProcessBenchResult",
    "Result",
    "best_threshold",
    "evaluate",
    "evaluate_best_of_n",
    "evaluate_prmbench",
    "evaluate_processbench",
    "load_benchmark",
    "score_benchmark",
]
