"""The process of one piece: `python -m gpu.work NAME [--tiny] ANSWER`, which writes the piece's JSON answer.

An exception is the piece's crash, and its traceback what the run records of it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--tiny", action="store_true", help="small shapes: does it run? Its figures mean nothing")
    parser.add_argument("--weights", type=Path, help="folder for checkpoints that several pieces load")
    parser.add_argument("answer", type=Path)
    arguments = parser.parse_args()
    set_environment()
    from gpu.findings import NotPossible

    try:
        answer = _work(arguments)()
    except NotPossible as reason:
        answer = {"not_possible": str(reason)}
    arguments.answer.write_text(json.dumps(answer), "utf-8")


def set_environment() -> None:
    """Before vLLM is imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine in this process: it can be asked what ran
    # Some virtual machines report AMX and end a process that uses it, as oneDNN does in bfloat16.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")


def _work(arguments: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    kind, _, name = arguments.name.partition(" ")
    if kind == "check":
        from gpu.checks import CHECKS

        def check() -> dict[str, Any]:
            with TemporaryDirectory(prefix="vllm-prm-gpu-") as folder:
                return CHECKS[name](Path(folder))

        return check
    if kind == "tests":
        from gpu.suites import run_tests

        return lambda: run_tests(name)
    from gpu.figures import measure

    shape, _, way = name.partition(" ")
    return lambda: measure(shape, way, arguments.weights, arguments.tiny)


if __name__ == "__main__":
    main()
