"""Requests that schemathesis draws from the server's own OpenAPI document: some fit it, some do not.

Drawn in a process of its own, which schemathesis keeps busy, and handed over in JSON lines.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import count
from typing import Any

from faults.known import ROOT
from faults.mutations import Hostile

PATHS = (
    "/v1/prm/score",
    "/v1/prm/prompts",
    "/v1/prm/recipe",
    "/get_reward",
    "/remote_rm",
    "/worker_value_inference",
    "/v1/embeddings",
    "/pooling",
)
# Requests of one route and mode before the next one's turn. vLLM's two take ten times as long to draw.
A_ROUND = dict.fromkeys(PATHS, 50) | {"/v1/embeddings": 10, "/pooling": 10}
SENT = ("method", "url", "headers", "params", "data", "json", "cookies", "files")  # what `requests` wants to know


def is_there() -> bool:
    return find_spec("schemathesis") is not None


def generated(url: str, seed: int = 0) -> Iterator[Hostile]:
    """Without an end; close it to end the process that draws them."""
    command = [sys.executable, "-m", "faults.generated", url, "--seed", str(seed)]
    path = os.pathsep.join([str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    assert process.stdout is not None
    try:
        for line in process.stdout:
            said = json.loads(line)
            yield Hostile(
                "from the schema", said["method"], said["path"], base64.b64decode(said["content"]), said["headers"]
            )
        raise RuntimeError(f"schemathesis ended with {process.wait()}")
    finally:
        process.kill()
        process.wait()


def main() -> None:
    import schemathesis
    from schemathesis import GenerationMode

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with urllib.request.urlopen(f"{arguments.url}/openapi.json", timeout=60) as answer:
        document = json.load(answer)
    document["paths"] = {path: document["paths"][path] for path in PATHS}
    schema = schemathesis.openapi.from_dict(document)
    for number in count(arguments.seed * 1_000_000):
        for path in PATHS:
            for method in document["paths"][path]:
                for mode in GenerationMode:
                    strategy = schema[path][method.upper()].as_strategy(generation_mode=mode)
                    _draw(strategy, arguments.url, number, A_ROUND[path])


def _draw(strategy: Any, url: str, number: int, examples: int) -> None:
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis.errors import Unsatisfiable

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def drawn(case: Any) -> None:
        _hand_over(case, url)

    with suppress(Unsatisfiable):  # a GET without parameters has no way not to fit
        drawn()


def _hand_over(case: Any, url: str) -> None:
    from requests import Request

    told = {name: value for name, value in case.as_transport_kwargs(base_url=url).items() if name in SENT}
    prepared = Request(**told).prepare()
    body = prepared.body or b""
    line = {
        "method": prepared.method,
        "path": prepared.path_url,
        "headers": {name: value for name, value in prepared.headers.items() if name.lower() != "content-length"},
        "content": base64.b64encode(body.encode() if isinstance(body, str) else body).decode(),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit()  # whoever listened has enough
