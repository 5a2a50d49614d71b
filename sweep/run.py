"""Score every architecture of the installed vLLM, one subprocess per batch; `make sweep`.

One JSON line per architecture in sweep/results.jsonl. Architectures that already have a line for the installed vLLM
are skipped, so an interrupted sweep goes on where it stopped; --again repeats those that are not verified.
A process that dies or hangs costs one architecture: its line says so and the next process goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.jsonl")
LIMIT_S = 120  # for one architecture: engine, weights, prompts
LIMIT_BYTES = 9 << 30  # of memory for one process: what does not shrink says so, instead of taking the machine down
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", help="only these, whatever the results say")
    parser.add_argument("--again", action="store_true", help="repeat what is not verified")
    parser.add_argument("--batch", type=int, default=8, help="architectures per process")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)  # how a batch calls this file
    args = parser.parse_args()
    if args.work:
        work(args.architectures)
        return
    from tqdm import tqdm

    todo = args.architectures or _todo(args.again)
    with tqdm(total=len(todo), unit="architecture") as bar, RESULTS.open("a") as out:
        for result in in_batches(todo, args.batch):
            out.write(json.dumps(result) + "\n")
            out.flush()
            bar.update()
            tqdm.write(f"{result['architecture']:45} {result['outcome']:9} {result.get('why', '')[:150]}")


def results() -> dict[str, dict[str, Any]]:
    """The last line of each architecture."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {row["architecture"]: row for row in map(json.loads, lines)}


def _todo(again: bool) -> list[str]:
    from vllm import __version__

    from sweep.configs import registered

    done = {
        name
        for name, row in results().items()
        if row["vllm"] == __version__ and not (again and row["outcome"] in ("failed", "stopped"))
    }
    return [name for name in registered() if name not in done]


def in_batches(todo: list[str], size: int, module: str = "sweep.run") -> Iterator[dict[str, Any]]:
    """The results of `python -m module --work NAMES`, which prints one JSON line per architecture."""
    while todo:
        batch = todo[:size]
        started = [sys.executable, "-m", module, "--work", *batch]
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                started, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **ENVIRONMENT}
            )
            count = 0
            for result in _results_of(process):
                count += 1
                yield result
            if count < len(batch) and process.wait() != RESTART:
                from vllm import __version__

                log.seek(0)
                why = f"its process ended with {process.returncode}: {_one_line(log.read())[-300:]}"
                yield {"architecture": batch[count], "vllm": __version__, "outcome": "stopped", "why": why}
                count += 1
        todo = todo[count:]


RESTART = 75  # exit status of a process that stops after a failure: vLLM keeps state that spoils the next engine


def _results_of(process: subprocess.Popen) -> Iterator[dict[str, Any]]:
    """The JSON lines of a batch, until it ends or takes longer than LIMIT_S for one."""
    assert process.stdout is not None
    while True:
        timer = threading.Timer(LIMIT_S, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            return
        if line.startswith('{"architecture"'):
            yield json.loads(line)


def work(architectures: list[str]) -> None:
    """Runs in a batch's process: one JSON line per architecture on stdout."""
    from vllm import __version__

    from sweep import absent, configs, score

    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    absent.stand_in()
    score.nontrivial_weights()
    score.inspect_models_here()
    for name in architectures:
        began = time.time()
        result: dict[str, Any] = {"architecture": name, "vllm": __version__}
        entry = configs.entry(name)
        try:
            with tempfile.TemporaryDirectory() as folder:
                configs.write(name, folder)
                result |= score.score(folder, entry.dtype, configs.options(name))
            result["outcome"] = "verified" if not result.get("why") else "failed"
        except Exception as error:  # noqa: BLE001 - whatever stops an architecture is what its row says
            if os.environ.get("SWEEP_DEBUG"):
                import traceback

                traceback.print_exc()
            outcome = "refused" if type(error).__name__ == "UnsupportedError" else "stopped"
            result |= {"outcome": outcome, "why": _short(error)}
        result |= {"dtype": entry.dtype, "seconds": round(time.time() - began, 1)}
        print("\n" + json.dumps(result), flush=True)
        if result["outcome"] != "verified":
            os._exit(RESTART)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {_one_line(str(error))[:400]}"


def _one_line(text: str) -> str:
    """Without line breaks, paths from the repository's root on, temporary folders as MODEL: alike on every machine."""
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/tmp\w+", "MODEL", text)
    return " ".join(text.split()).replace(f"{Path.cwd()}/", "")


if __name__ == "__main__":
    main()
