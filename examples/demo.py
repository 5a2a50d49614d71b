"""The main job in one minute: serve a PRM, score a right and a wrong solution, name the first wrong step.

Run by `make demo`. Starts the real server by the command it prints, asks it through the `openai` client as any
program would, and stops it whatever happens.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import openai
from arithmetic import prompt

MODEL = Path(__file__).parent / "tiny-prm"
STOPPING = (signal.SIGINT, signal.SIGTERM)
START_UP_S = 300  # about 50 s on two idle CPU cores
WRONG_BELOW = 0.5  # ProcessBench's threshold, https://github.com/QwenLM/ProcessBench

QUESTION = "Mia has 12 apples. She buys 5. She eats 9. She finds 4. How many now?"
CANDIDATES = {
    "A": ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 8", "Step 3: 8 + 4 = 12"],
    "B": ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 7", "Step 3: 7 + 4 = 11"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="ask a server that runs already, instead of starting one")
    url = parser.parse_args().url
    # A terminated demo must stop its server too: turn SIGTERM into an exception that unwinds `serving`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if url:
        show(url)
        return
    with serving() as own:
        show(own)


def show(url: str) -> None:
    """Score both candidates and say which is better and why."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    model = client.models.list().data[0].id
    prompts = [prompt(QUESTION, steps) for steps in CANDIDATES.values()]
    answer = client.embeddings.create(model=model, input=prompts)
    scores = {name: item.embedding for name, item in zip(CANDIDATES, answer.data, strict=True)}

    print(f"\nQuestion: {QUESTION}")
    for name, steps in CANDIDATES.items():
        print(f"\nSolution {name}")
        for step, score in zip(steps, scores[name], strict=True):
            print(f"  {coloured(f'{score:.4f}', good=score >= WRONG_BELOW)}  {step}")
        wrong = next((i for i, score in enumerate(scores[name], 1) if score < WRONG_BELOW), None)
        print(f"  first wrong step: {wrong or 'none'}")
    best = max(scores, key=lambda name: min(scores[name]))
    print(f"\nBetter solution (by its lowest step score): {best}")


@contextmanager
def serving() -> Iterator[str]:
    """`vllm serve` on a free port, with a progress line until it answers; stopped on the way out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["vllm", "serve", os.path.relpath(MODEL), "--task", "embed", "--dtype", "float32", "--port", str(port)]
    print(f"$ {shlex.join(command)}")
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ}
    executable = Path(sys.executable).with_name("vllm")
    with tempfile.TemporaryFile("w+") as log:
        # A signal that came while the process is being made would leave it without anyone to stop it.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        process = subprocess.Popen(
            [executable, *command[1:]],
            stdout=log,
            stderr=log,
            env=environment,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING),
        )
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            url = f"http://127.0.0.1:{port}"
            wait(process, url, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait(process: subprocess.Popen, url: str, log: IO[str]) -> None:
    """Until the server is healthy. Raises SystemExit with the end of its log if it stops or takes too long."""
    start = time.monotonic()
    while (waited := time.monotonic() - start) < START_UP_S and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                print(f"{rewind()}server ready after {waited:.0f} s")
                return
        except httpx.HTTPError:
            pass
        if sys.stdout.isatty():
            print(
                f"{rewind()}waiting for the server ... {waited:.0f} s (about a minute on two CPU cores)",
                end="",
                flush=True,
            )
        elif int(waited) % 10 == 0:
            print(f"waiting for the server ... {waited:.0f} s", flush=True)
        time.sleep(1)
    log.seek(0)
    print(log.read()[-4000:], file=sys.stderr)
    sys.exit("the server stopped before it was ready" if process.poll() is not None else "the server took too long")


def rewind() -> str:
    return "\r\033[K" if sys.stdout.isatty() else ""


def coloured(text: str, good: bool) -> str:
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:  # https://no-color.org
        return text
    return f"\033[{32 if good else 31}m{text}\033[0m"


if __name__ == "__main__":
    main()
