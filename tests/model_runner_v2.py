"""Model Runner V2, with which vLLM serves on GPUs, on a CPU.

vLLM has a V2 for CPUs, with stand-ins for CUDA's streams, events and pinned memory, and takes it where Triton compiles
for CPUs, which Triton's releases do not. So Triton's interpreter runs V2's kernels here, the very ones, as Python.
What remains different from a GPU: the attention kernels, CUDA graphs, and that copies are done when they return.

Both are decided when vLLM and its kernels are imported: a process is one with V2 from its start, or never. As a
program, this file answers the series of prompts (series_of_prompts.py) that it finds pickled in its first argument into
the second. As a plugin, it makes tests that start engines in pytest's process run on V2:

    PYTHONPATH=tests .venv/bin/python -m pytest -p model_runner_v2 tests/e2e/test_prefix_cache.py
"""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GRAPH_SIZE = 16  # tokens; one of the sizes for which vLLM captures graphs (`_set_cudagraph_sizes` in its config)


def use_model_runner_v2() -> None:
    """For all engines of this process, and before it imports vLLM."""
    assert "vllm" not in sys.modules, "vLLM is imported already, without its kernels"
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"
    from triton.backends import backends

    # vLLM looks, once, for a backend that compiles for CPUs. It is taken away again: torch.compile would call it.
    backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))
    from vllm.triton_utils import HAS_TRITON

    del backends["cpu"]
    assert HAS_TRITON


def run_as_on_a_gpu() -> None:
    """Engines of this process do what vLLM's worker does on GPUs and leaves out on CPUs.

    When they start, the memory of CUDA graphs is measured on a small KV cache, which is thrown away before the real one
    comes, and requests that nobody sent warm the kernels up. Later, batches are padded to sizes that have a graph. Of
    the graphs themselves, only the batches that they capture are run.
    """
    from vllm.v1.worker.cpu_worker import CPUWorker
    from vllm.v1.worker.gpu.cudagraph_utils import CudaGraphManager

    measure, warm_up = CPUWorker.determine_available_memory, CPUWorker.compile_or_warm_up_model
    dispatch = CudaGraphManager.dispatch

    def measure_graphs_too(worker: Any) -> int:
        _measure_graphs(worker)
        return measure(worker)

    def warm_kernels_up_too(worker: Any) -> Any:
        from vllm.v1.worker.gpu.warmup import warmup_kernels

        times = warm_up(worker)
        warmup_kernels(worker.model_runner, worker.execute_model, worker.sample_tokens)
        worker.model_runner._dummy_run(1)
        return times

    def padded(manager: Any, *args: Any, **kwargs: Any) -> Any:
        batch = dispatch(manager, *args, **kwargs)
        return replace(batch, num_tokens=-(-batch.num_tokens // GRAPH_SIZE) * GRAPH_SIZE)

    CPUWorker.determine_available_memory = measure_graphs_too
    CPUWorker.compile_or_warm_up_model = warm_kernels_up_too
    CudaGraphManager.dispatch = padded


def _measure_graphs(worker: Any) -> None:
    from vllm.config import set_current_vllm_config
    from vllm.v1.worker.gpu.cudagraph_utils import _init_minimal_kv_cache_for_profiling, _teardown_profiling_state

    runner = worker.model_runner
    with set_current_vllm_config(worker.vllm_config):
        runner.profile_run()
        runner.compilation_config.max_cudagraph_capture_size = GRAPH_SIZE  # None without CUDA graphs
        _init_minimal_kv_cache_for_profiling(runner)
        runner._dummy_run(GRAPH_SIZE)
        _teardown_profiling_state(runner)


def pytest_configure() -> None:
    use_model_runner_v2()


def main(series_file: str, answers_file: str) -> None:
    use_model_runner_v2()
    run_as_on_a_gpu()
    from series_of_prompts import answers

    all_series = pickle.loads(Path(series_file).read_bytes())
    Path(answers_file).write_bytes(pickle.dumps([answers(series) for series in all_series]))


if __name__ == "__main__":
    main(*sys.argv[1:])
