"""A server of our HTTP routes that misbehaves on demand: busy, slow, dropping connections, talking nonsense."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from responses import recipe_response, refused, score_response, solutions_of

from vllm_prm import load_recipe
from vllm_prm.scores import StepScores
from vllm_prm.wire import ErrorInfo

RECIPE = load_recipe("math-shepherd")
# Questions whose solutions cannot be scored: by the solution's own fault, or the server's.
FAILURES = {"bad": refused("step 1 of 1 is empty"), "broken": refused("it broke", 500)}
# Questions that fail the whole request.
FATAL = {"malformed": refused("no such body"), "crash": refused("the server met a bug", 500)}


class Server:
    """Scores steps that are numbers (the step's first logit). `trouble` are answers to give first, in order.

    now, most: solutions under way, and how many they were at most. longest: bytes of a body, more are refused.
    """

    def __init__(self) -> None:
        self.trouble: list[str] = []
        self.seen: list[dict] = []
        self.headers: list[dict] = []
        self.now = self.most = 0
        self.longest = 1_000_000
        self.recipe = RECIPE.to_dict()
        self.asked = Counter()
        self.app = FastAPI()
        self.app.get("/v1/prm/recipe")(self.recipe_route)
        self.app.post("/v1/prm/score")(self.score_route)

    async def recipe_route(self, request: Request):
        self.asked["recipe"] += 1
        self.headers.append(dict(request.headers))
        return {**recipe_response(RECIPE), "recipe": self.recipe}

    async def score_route(self, request: Request):
        self.asked["score"] += 1
        body = await request.json()
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        solutions = solutions_of(body)
        self.now += len(solutions)
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01)
            if self.trouble:
                return await self.misbehave(self.trouble.pop(0))
            if int(request.headers["content-length"]) > self.longest:
                return PlainTextResponse("the body is too large", 413)  # a proxy's, not ours
            for question, _ in solutions:
                if question in FATAL:
                    return error_response(FATAL[question])
            results = [FAILURES.get(question) or scored(*map(float, steps)) for question, steps in solutions]
            if "steps" in body and isinstance(results[0], ErrorInfo):
                return error_response(results[0])
            return score_response(*results)
        finally:
            self.now -= len(solutions)

    async def misbehave(self, how: str):
        status, _, wait = how.partition(" after ")
        if status.isdigit():
            error = {"message": f"no: {status}", "type": "Trouble", "param": None, "code": int(status)}
            return JSONResponse({"error": error}, int(status), {"Retry-After": wait} if wait else {})
        if how == "slow":
            await asyncio.sleep(3)
        if how == "drop":

            async def half():
                yield b'{"data": ['
                raise ConnectionResetError("the test drops this connection")

            return StreamingResponse(half(), headers={"Content-Length": "100"})
        return PlainTextResponse(how)


def error_response(error: ErrorInfo) -> JSONResponse:
    return JSONResponse({"error": error.model_dump()}, error.code)


@contextmanager
def listening(app) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=20)  # seconds
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@asynccontextmanager
async def listening_beside(app) -> AsyncIterator[str]:
    """`listening`, for a client in this event loop.

    A server that stops waits for the rest of a request whose head it has. The client can only send that while its loop
    runs, so the wait for the server's end is in another thread.
    """
    server = listening(app)
    url = await asyncio.to_thread(server.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def scored(*logits) -> StepScores:
    """What the server makes of steps that are these numbers."""
    return StepScores.from_logits([[logit, 0.1] for logit in logits], RECIPE, 9, 4)
