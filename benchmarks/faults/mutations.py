"""Requests that are nearly right: bodies of asks.py with something in them changed, and bytes that are no HTTP.

Everything is drawn from one random generator, so that a seed says which requests were sent.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from faults.asks import any_of
from faults.known import Known

# Values that have broken parsers, validators and tokenizers: of another type, out of range, half a character, nothing.
STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    -(2**31) - 1,
    10**30,
    1e-320,
    0.5,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\n\n",
    "\x00",
    "\ud800",
    "\U0001f600" * 50,
    "ки",
    " ки\n" * 30,
    "<s></s><unk>",
    "../../etc/passwd",
    "%s%n{0}",
    "a" * 20_000,
    "5 " * 3_000,
    [],
    {},
    [[]],
    [None],
    [""],
    {"a": {"b": []}},
    [["1 + 1 = 2"]] * 40,
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    [{"type": "text", "text": "x"}],
)
KEYS = ("model", "priority", "aggregate", "return", "encoding_format", "truncate_prompt_tokens", "dimensions", "x")
QUERIES = (
    "aggregate=max",
    "on_error=nan",
    "on_error=1e999",
    "on_error=0",
    "reply=object",
    "reply=",
    "a=%ff&%00=1",
    "&&",
)
HEADERS = (
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "multipart/form-data"},
    {"Content-Encoding": "gzip"},
    {"Accept": "image/png"},
    {"X-Request-Id": "a" * 4_000},
    {"traceparent": "00-zz-zz-zz"},
    {"X-data-parallel-rank": "17"},
    {"Authorization": "Basic ====="},
    {"Expect": "100-continue"},
)
METHODS = ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH")


@dataclass(frozen=True)
class Hostile:
    """A request as it is sent. kind: how it was made, for the figures."""

    kind: str
    method: str
    path: str
    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def mutated(trees: Sequence[Sequence[Known]], rng: random.Random) -> Hostile:
    """A request that was right, and is changed in one to three places of its body, or as a whole."""
    ask = any_of(trees, rng)
    if rng.random() < SHARE_AS_A_WHOLE:
        return rng.choice(AS_A_WHOLE)(ask.path, json.dumps(ask.body).encode(), rng)
    body: Any = copy.deepcopy(ask.body)
    for _ in range(rng.randint(1, 3)):
        body = _changed(body, rng)
    return Hostile("mutated body", "POST", ask.path, _written(body))


def _written(body: Any) -> bytes:
    """NaN and halves of characters are written as some writers do, not as JSON says."""
    return json.dumps(body).encode()


def _changed(value: Any, rng: random.Random) -> Any:
    """The value with one of its parts, wherever it is, replaced, left out, doubled or added."""
    if isinstance(value, dict) and value and rng.random() < DEEPER:
        key = rng.choice(list(value))
        return _without(value, key) if rng.random() < 0.2 else {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < DEEPER:
        at = rng.randrange(len(value))
        part = [] if (fate := rng.random()) < 0.2 else [value[at]] * 2 if fate < 0.4 else [_changed(value[at], rng)]
        return [*value[:at], *part, *value[at + 1 :]]
    if isinstance(value, str) and value and rng.random() < DEEPER:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice(("", "\x00", "\ud800", " ки", "\n", "+", "é", "</s>")) + value[at + 1 :]
    if isinstance(value, dict):
        return {**value, rng.choice(KEYS): rng.choice(STRANGE)}
    return rng.choice(STRANGE)


def _without(value: dict, key: str) -> dict:
    return {name: part for name, part in value.items() if name != key}


def _cut(path: str, content: bytes, rng: random.Random) -> Hostile:
    return Hostile("cut body", "POST", path, content[: rng.randrange(len(content))])


def _flipped(path: str, content: bytes, rng: random.Random) -> Hostile:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return Hostile("flipped bytes", "POST", path, bytes(changed))


def _noise(path: str, content: bytes, rng: random.Random) -> Hostile:
    return Hostile("noise", "POST", path, rng.randbytes(rng.randint(0, 500)))


def _nested(path: str, content: bytes, rng: random.Random) -> Hostile:
    depth = rng.choice((100, 1_000, 20_000))
    return Hostile("nested", "POST", path, rng.choice((b'{"question":', b"[")) * depth)


def _header(path: str, content: bytes, rng: random.Random) -> Hostile:
    more = rng.choice(HEADERS)
    sent = gzip.compress(content) if "Content-Encoding" in more and rng.random() < 0.5 else content
    return Hostile("headers", "POST", path, sent, {"Content-Type": "application/json", **more})


def _query(path: str, content: bytes, rng: random.Random) -> Hostile:
    return Hostile("query", "POST", f"{path.partition('?')[0]}?{rng.choice(QUERIES)}", content)


def _method(path: str, content: bytes, rng: random.Random) -> Hostile:
    return Hostile("method", rng.choice(METHODS), path, content)


def _place(path: str, content: bytes, rng: random.Random) -> Hostile:
    other = rng.choice((path + "/", path.upper(), "//" + path, path + "/%2e%2e", "/v1/prm/", path + "%00"))
    return Hostile("path", "POST", other, content)


AS_A_WHOLE: tuple[Callable[[str, bytes, random.Random], Hostile], ...] = (
    _cut,
    _flipped,
    _noise,
    _nested,
    _header,
    _query,
    _method,
    _place,
)
SHARE_AS_A_WHOLE = 0.4  # the rest is changed inside its body, where most of our own checks are
DEEPER = 0.8  # to go on into a part rather than to replace the whole


def raw(trees: Sequence[Sequence[Known]], rng: random.Random) -> bytes:
    """What a socket sends that is no HTTP, or whose HTTP does not hold what it says."""
    ask = any_of(trees, rng)
    content = json.dumps(ask.body).encode()
    head = f"POST {ask.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    length = len(content)
    return rng.choice(
        (
            rng.randbytes(rng.randint(1, 300)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),  # a TLS hello
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            head + b"Content-Length: %d\r\n\r\n" % (length + 50) + content,  # fewer bytes than said, then nothing
            head + b"Content-Length: %d\r\n\r\n" % max(0, length - 50) + content,  # more: the rest is no request
            head + b"Content-Length: -1\r\n\r\n" + content,
            head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + content,
            head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % length + content[: length // 2],
            head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n" + content,
            head + b"no colon here\r\n\r\n" + content,
            head + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
            head + b"X: \x00\xff\r\nContent-Length: %d\r\n\r\n" % length + content,
            b"POST /v1/prm/score HTTP/0.9\r\n\r\n",
            head[: rng.randrange(len(head))],
            (head + b"Content-Length: %d\r\n\r\n" % length + content) * 3,  # three at once
        )
    )
