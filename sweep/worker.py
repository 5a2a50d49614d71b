"""The process in which a batch of architectures is measured: `python -m sweep.worker MEASURE ARCHITECTURE...`

Prints one row per architecture on stdout, as a line of JSON. Whatever stops an architecture is what its row says; the
process then ends with RESTART, since vLLM keeps state that spoils the next engine. With the environment variable
SWEEP_DEBUG set, the traceback goes to stderr.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep import absent, configs
from sweep.architectures import engine_options, entry
from sweep.environment import ENVIRONMENT
from sweep.rows import Row

RESTART = 75  # exit status: EX_TEMPFAIL of sysexits.h, and no status of a crash
LIMIT_BYTES = 9 << 30  # of memory for one process: what does not shrink says so, instead of taking the machine down

Measure = Callable[[str, str, dict[str, Any]], Row]  # of a checkpoint's folder, the dtype, the engine's options


def work(measure_name: str, architectures: list[str]) -> None:
    from vllm import __version__

    from sweep.small_engine import inspect_models_here

    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    absent.stand_in()
    inspect_models_here()
    for name in architectures:
        row = {"architecture": name, "vllm": __version__, **_measured(_measure(measure_name), name)}
        print("\n" + json.dumps(row), flush=True)
        if "why" in row:
            os._exit(RESTART)


def _measure(name: str) -> Measure:
    from sweep import generation, score

    return {"score": score.score, "generation": generation.compare}[name]


def _measured(measure: Measure, architecture: str) -> Row:
    """The row's fields but for its architecture and vLLM's version."""
    from vllm_prm import UnsupportedError

    began = time.time()
    dtype = entry(architecture).dtype
    try:
        with tempfile.TemporaryDirectory() as folder:
            configs.write(architecture, folder)
            row = measure(folder, dtype, engine_options(architecture))
    except Exception as error:  # noqa: BLE001 - whatever stops an architecture is what its row says
        if os.environ.get("SWEEP_DEBUG"):
            traceback.print_exc()
        outcome = "refused" if isinstance(error, UnsupportedError) else "stopped"
        row = {"outcome": outcome, "why": f"{type(error).__name__}: {one_line(str(error))[:400]}"}
    return {**row, "dtype": dtype, "seconds": round(time.time() - began, 1)}


def one_line(text: str) -> str:
    """Without line breaks, paths from the repository's root on, temporary folders as MODEL: alike on every machine."""
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/tmp\w+", "MODEL", text)
    return " ".join(text.split()).replace(f"{Path.cwd()}/", "")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    work(sys.argv[1], sys.argv[2:])
