"""A server that speaks our HTTP routes without a model: a step's logits are made of its text, so answers can be told.

Fast enough for ten thousand requests, and it can be taken away in the middle.
"""

from __future__ import annotations

import json
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from responses import recipe_response, refused, score_response, solutions_of

from vllm_prm import StepScores, load_recipe
from vllm_prm.wire import ErrorInfo

RECIPE = Path(__file__).parents[1] / "examples" / "tiny-prm" / "prm.json"
TOO_LONG, BROKEN = "too long", "broken"  # steps that are refused (HTTP 400), or fail (HTTP 500)
CRASH = "crash"  # a step that fails the whole request


def expected(steps: list[str]) -> StepScores:
    """What the server makes of these steps."""
    logits = np.array([[zlib.crc32(step.encode()) % 997 / 100, 5.0] for step in steps], dtype=np.float32)
    return StepScores.from_logits(logits, load_recipe(str(RECIPE)))


def _result(steps: list[str]) -> StepScores | ErrorInfo:
    if steps[0] == TOO_LONG:
        return refused("step 1 no longer fits")
    return refused("it broke", 500) if steps[0] == BROKEN else expected(steps)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        known = {
            "/health": {},
            "/v1/models": {"data": [{"id": "fake-prm"}]},
            "/v1/prm/recipe": recipe_response(
                load_recipe({**load_recipe(str(RECIPE)).to_dict(), **self.server.recipe})
            ),
        }
        if self.path in known and self.path not in self.server.without:
            self._send(200, known[self.path])
        else:
            self._send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        solutions = solutions_of(body)
        self.server.seen += [question for question, _ in solutions]
        if self.server.most is not None and len(self.server.seen) > self.server.most:
            self.close_connection = self.server.gone.wait()  # an answer never comes
            return
        if any(CRASH in steps for _, steps in solutions):
            self._send(500, {"error": refused("it crashed", 500).model_dump()})
            return
        results = [_result(steps) for _, steps in solutions]
        if "steps" in body and isinstance(results[0], ErrorInfo):
            self._send(results[0].code, {"error": results[0].model_dump()})
        else:
            self._send(200, score_response(*results))

    def _send(self, status: int, value: Any) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a client that was killed


@contextmanager
def speaking(
    port: int = 0, without: tuple[str, ...] = (), most: int | None = None, recipe: dict[str, Any] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """The server's address, and a list that grows by the question of every solution, or the path of another request.

    without: paths it lacks. most: after so many of them it keeps the others waiting until it goes away. recipe: fields
    of its recipe that are not the tiny PRM's.
    """
    server = _Server(("127.0.0.1", port), _Handler)
    server.seen, server.without, server.connections = [], without, []
    server.most, server.gone, server.recipe = most, threading.Event(), recipe or {}
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.seen
    finally:
        server.gone.set()
        server.shutdown()
        server.server_close()
        for connection in server.connections:
            with suppress(OSError):  # closed by the client
                connection.shutdown(socket.SHUT_RDWR)
