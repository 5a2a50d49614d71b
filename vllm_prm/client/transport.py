"""HTTP to a server of ours: connections are kept, failures tried again; a typed response or a PRMError comes back."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from vllm_prm.errors import EngineError, RequestError, UnreachableError
from vllm_prm.wire import explain

_R = TypeVar("_R", bound=BaseModel)

RETRIED = (429, 502, 503, 504)  # too many requests, and the server or a proxy before it for now unable to answer
_BAD_REQUEST = (400, 413, 422)  # what is asked is wrong; other statuses below 500 are about where and as whom
_BROKE_OVER_IT = 500  # the server met a fault of its own, which something in the body may have led it to

_FIRST_PAUSE_S = 0.5  # doubled with every retry: 0.5, 1, 2, 4, then _LONGEST_PAUSE_S, as OpenAI's client pauses
_LONGEST_PAUSE_S = 8.0
_LONGEST_RETRY_AFTER_S = 60.0  # a server that asks for more than a minute is down, not busy
_KEEP_IDLE_S = 4.0  # vLLM closes idle connections after 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE); be the first to
_SHARED_BY = 8  # requests under way per httpx client, which looks at all its connections several times a request
_SESSION_HEADER = "X-Session-ID"  # vllm-router's for its policy consistent_hash (vllm-router 0.1.17)
# Bytes of an answer, unpacked. 100,000 steps with the logits of two scoring tokens are some 6 MB of JSON, so what is
# longer is no answer of ours; and a few bytes may unpack to more than a machine holds.
_LONGEST_ANSWER = 1 << 28
_CONNECT_S = 10.0  # a host that is there accepts within milliseconds; a wrong address never does


@dataclass(frozen=True)
class Refusal:
    """The server refused a body, or broke over it: it may answer a part of it. error: what to tell the user."""

    error: RequestError | EngineError


class Transport:
    """Requests to one server. Lives in one event loop.

    Raises RequestError where the server says that the request is at fault, EngineError for everything else: each with
    the server's own message, or with the address and what to do.
    """

    def __init__(
        self, base_url: str, api_key: str | None, *, timeout: float, max_retries: int, max_concurrency: int
    ) -> None:
        self.url = checked_url(base_url)
        self.timeout = timeout
        self.max_retries = max_retries
        key = api_key if api_key is not None else os.environ.get("VLLM_API_KEY")
        self._clients = [
            httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_S), pool=None),
                limits=httpx.Limits(keepalive_expiry=_KEEP_IDLE_S),
                verify=certificates(),
            )
            for _ in range(-(-max_concurrency // _SHARED_BY))
        ]
        # A place for each request that may be under way. The last one given back is taken first: connections stay few.
        self._places: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for place in range(max_concurrency):
            self._places.put_nowait(self._clients[place // _SHARED_BY])

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def ask(self, method: str, path: str, response_type: type[_R], body: BaseModel | None = None) -> _R:
        """The response to a request, tried again where that can help."""
        response = await self.ask_or_refusal(method, path, response_type, body)
        if isinstance(response, Refusal):
            raise response.error
        return response

    async def ask_or_refusal(
        self,
        method: str,
        path: str,
        response_type: type[_R],
        body: BaseModel | None = None,
        session: str | None = None,
    ) -> _R | Refusal:
        """As `ask`, but what the server has against the body is returned.

        session: for a router in front of several servers, which sends the requests of one session to one of them.
        """
        content = None if body is None else body.model_dump_json(by_alias=True, exclude_defaults=True)
        for attempt in range(self.max_retries + 1):
            is_last = attempt == self.max_retries
            try:
                response = await self._send(method, path, content, session)
            except httpx.DecodingError as error:
                raise EngineError(
                    f"{self.url}{path} answered with something that does not unpack as its Content-Encoding says "
                    f"({error}). Is a proxy between?"
                ) from error
            except httpx.TransportError as error:
                if is_last or not _worth_retrying(error):
                    raise self._no_answer(error, attempt + 1) from error
                await asyncio.sleep(_pause(attempt))
                continue
            if response.status_code not in RETRIED or is_last:
                return self._read(response, path, response_type, attempt + 1)
            pause = retry_after(response.headers.get("Retry-After"))
            if pause is not None and pause > _LONGEST_RETRY_AFTER_S:
                return self._read(response, path, response_type, attempt + 1)
            await asyncio.sleep(_pause(attempt) if pause is None else pause)
        raise AssertionError  # the last attempt returns or raises

    async def text_of_page(self, path: str) -> str:
        """What a page says; nothing if there is no such page, or no answer."""
        try:
            response = await self._send("GET", path, None)
        except (httpx.TransportError, httpx.DecodingError, EngineError):
            return ""
        return response.text if response.status_code == 200 else ""

    async def _send(self, method: str, path: str, content: str | None, session: str | None = None) -> httpx.Response:
        client = await self._places.get()
        headers = {} if content is None else {"Content-Type": "application/json"}
        if session is not None:
            headers[_SESSION_HEADER] = session
        try:
            response = await client.send(
                client.build_request(method, path, content=content, headers=headers), stream=True
            )
            try:
                return await _whole(response)
            finally:
                await response.aclose()
        finally:
            self._places.put_nowait(client)

    def _no_answer(self, error: httpx.TransportError, attempts: int) -> EngineError:
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            return EngineError(
                f"{self.url} did not answer within {self.timeout:g} s; the server may be busy: "
                "lower max_concurrency, or give a longer timeout"
            )
        tried = "once" if attempts == 1 else f"{attempts} times"
        kind = UnreachableError if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else EngineError
        return kind(
            f"no answer from {self.url} (tried {tried}): {str(error) or type(error).__name__}. Is the server up and "
            "the address right? Start one with: VLLM_PLUGINS=prm vllm serve MODEL --task embed"
        )

    def _read(self, response: httpx.Response, path: str, response_type: type[_R], attempts: int) -> _R | Refusal:
        status, where = response.status_code, f"{self.url}{path}"
        if status == 200:
            try:
                return response_type.model_validate_json(response.content)
            except ValidationError as error:
                raise EngineError(
                    f"{where} answered with something that is no {response_type.__name__} "
                    f"({explain(error.errors())[0]}): {response.text[:200]!r}. Is a vllm-prm of this version there?"
                ) from error
        refusal = self._error(response, path, attempts)
        if status in _BAD_REQUEST or status == _BROKE_OVER_IT:
            return Refusal(refusal)
        raise refusal

    def _error(self, response: httpx.Response, path: str, attempts: int) -> EngineError | RequestError:
        status, where = response.status_code, f"{self.url}{path}"
        message, kind = _message(response)
        if status == 401:
            return EngineError(
                f"{self.url} refused the API key: pass api_key=, or set VLLM_API_KEY, to the server's key"
            )
        if status == 404 and kind != "NotFoundError":  # the route is missing, not the model
            return EngineError(
                f"{where} does not exist: start the server with VLLM_PLUGINS=prm, which makes vLLM add our routes "
                "(VLLM_PLUGINS=prm vllm serve MODEL --task embed). /v1/embeddings cannot stand in for them: it does "
                "not know questions and steps. A server that completes text can be asked without our plugin, if you "
                "name the recipe (PRMClient(url, recipe=...), vllm-prm --recipe)"
                if _is_ours(path)
                else f"{where} does not exist: this server does not complete text as OpenAI's; is the address right?"
            )
        if status in RETRIED:
            tried = "once" if attempts == 1 else f"{attempts} times"
            return EngineError(f"{where} is overloaded or not ready (HTTP {status}, tried {tried}): {message}")
        return error_of(status, message, where)


async def _whole(response: httpx.Response) -> httpx.Response:
    """The response with its content, read. Raises EngineError if it is longer than any answer."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) <= _LONGEST_ANSWER and "Content-Encoding" not in response.headers:
        await response.aread()
        return response
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > _LONGEST_ANSWER:
            raise EngineError(
                f"{response.request.url} answers with more than {_LONGEST_ANSWER >> 20} MiB, which is no answer to "
                "this request. Is a vllm-prm there?"
            )
    headers = [(name, value) for name, value in response.headers.items() if name.lower() != "content-encoding"]
    return httpx.Response(response.status_code, headers=headers, content=b"".join(parts), request=response.request)


def _is_ours(path: str) -> bool:
    return path.startswith("/v1/prm/")


def error_of(status: int, message: str, where: str) -> EngineError | RequestError:
    """What an HTTP status, of a whole response or of one solution's entry, says about whose fault it is.

    message: the server's. where: its address, for faults that are not the request's.
    """
    if status in _BAD_REQUEST:
        return RequestError(message)
    if status < 500:
        return EngineError(f"{where} refused the request with HTTP {status}: {message}")
    return EngineError(f"{where} failed with HTTP {status}: {message}")


@lru_cache(maxsize=1)
def certificates() -> ssl.SSLContext:
    """httpx's own. Read once: the file of them takes longer than a hundred requests."""
    return httpx.create_ssl_context()


def checked_url(base_url: str) -> str:
    """The server's address without a trailing slash or /v1, which OpenAI's clients want. Raises RequestError."""
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
        raise RequestError(f"base_url is {base_url!r}; expected an address such as http://localhost:8000")
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3: seconds or a date); None if there is none."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds == seconds else None


def _pause(attempt: int) -> float:
    """Seconds, with jitter: clients that failed together must not come back together."""
    return min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)


def _worth_retrying(error: httpx.TransportError) -> bool:
    """Scoring changes nothing, so a dropped connection may be asked again; a slow answer would only be slower."""
    return not isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout | httpx.UnsupportedProtocol)


def _message(response: httpx.Response) -> tuple[str, str | None]:
    """Message and type of vLLM's error object, or what else the response says."""
    try:
        error = response.json()["error"]
        return str(error["message"]), error.get("type")
    except (ValueError, KeyError, TypeError):
        return response.text[:500] or response.reason_phrase, None
