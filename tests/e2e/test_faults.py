"""The faults of `make soak` (benchmarks/faults) in small numbers, on a server that survives them.

Those that a server does not survive, and an hour of requests, are left to `make soak`.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from faults import commandline, slow  # noqa: E402 - benchmarks are no package
from faults.generated import generated, is_there  # noqa: E402
from faults.hostile import requests, storm  # noqa: E402
from faults.known import solutions  # noqa: E402
from faults.soak import load  # noqa: E402

HOSTILE, SECONDS, CLIENTS, LEAVING = 400, 3.0, 16, 0.1
LINES = 60
needs_schemathesis = pytest.mark.skipif(
    not is_there(), reason="schemathesis draws requests from the OpenAPI document: pip install schemathesis"
)


@pytest.fixture(scope="module")
def trees():
    return solutions(questions=4, beams=3, most_steps=8)


def survived(url, trees, sources, count):
    toll = asyncio.run(storm(url, trees, sources, count, print))
    assert not toll.broken  # no 5xx: nothing here is vLLM's own
    assert toll.faults({}) == []
    assert toll.sent["right"] >= count // 10
    return toll


def test_hostile_requests(tiny_prm_url, trees):
    toll = survived(tiny_prm_url, trees, requests(trees, 1, None), HOSTILE)
    assert {"mutated body", "raw bytes", "left", "cut body", "headers"} <= {*toll.sent}


@needs_schemathesis
def test_hostile_requests_from_the_schema(tiny_prm_url, trees):
    with closing(generated(tiny_prm_url)) as schema:
        toll = survived(tiny_prm_url, trees, requests(trees, 2, schema), HOSTILE // 4)
    assert toll.sent["from the schema"]


def test_many_at_once_of_whom_some_leave(tiny_prm_url, trees):
    tally = asyncio.run(load(tiny_prm_url, trees, SECONDS, CLIENTS, LEAVING, print))
    assert not tally.wrong, tally.words
    assert sum(tally.answered.values()) > CLIENTS
    assert tally.left


@pytest.mark.parametrize("name", [name for name in slow.FAULTS if name != "bomb to the client"])  # in tests/unit, small
def test_clients_that_send_little_late_or_too_much(tiny_prm_url, trees, name):
    slow.FAULTS[name](tiny_prm_url, trees)  # raises if anything was lost or out of bounds


@pytest.mark.parametrize("name", commandline.FAULTS)
def test_the_command_line_in_trouble(tiny_prm_url, trees, name, tmp_path):
    many = [beam.first(1 + n % 8) for n in range(LINES // 12) for beams in trees for beam in beams]
    commandline.FAULTS[name](tiny_prm_url, many, tmp_path)
