"""What results are of: the GPU, its driver, the machine around it, the vLLM and the commit. Asks no CUDA library."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vllm_prm.engine.compat import vllm_version

ROOT = Path(__file__).parents[2]
GIB = 1 << 30


def gpus() -> list[dict[str, str]]:
    """Name, driver and memory of each GPU, as nvidia-smi lists them; none if there is no nvidia-smi."""
    fields = {"gpu": "name", "driver": "driver_version", "gpu_memory": "memory.total"}
    command = ["nvidia-smi", f"--query-gpu={','.join(fields.values())}", "--format=csv,noheader"]
    lines = _said(command).splitlines()
    return [dict(zip(fields, (part.strip() for part in line.split(",")), strict=True)) for line in lines]


def machine() -> dict[str, Any]:
    """All that two results of one document must have in common."""
    listed = gpus()
    first = listed[0] if listed else {"gpu": "none", "driver": "none", "gpu_memory": "none"}
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB)
    return {
        **first,
        "gpus": len(listed),
        "cpu_cores": os.cpu_count(),
        "memory_gib": memory,
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "vllm": vllm_version() or "none",
        "torch": version("torch"),
        "transformers": version("transformers"),
        "vllm_prm": version("vllm-prm"),
    }


def commit() -> str:
    """Of the checkout that runs, "+" added if files differ from it; "unknown" outside a repository."""
    head = _said(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]).strip()
    # The pages and the results are what a run writes itself.
    files = [".", ":!docs/gpu.md", ":!docs/reliability.md", ":!benchmarks/results"]
    changed = _said(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", *files]).strip()
    return head + ("+" if changed else "") if head else "unknown"


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
