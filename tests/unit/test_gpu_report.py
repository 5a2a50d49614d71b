"""The tables of `make gpu`, from documents written by hand: what is a ratio of what, and what counts as a fault."""

from __future__ import annotations

import copy
import sys

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from gpu.report import faults, markdown
from gpu.suites import count

MACHINE = {
    **{"gpu": "NVIDIA H100", "driver": "570.1", "gpu_memory": "81559 MiB", "gpus": 1, "cpu_cores": 16},
    **{"memory_gib": 128, "architecture": "x86_64", "python": "3.11.7", "vllm": "0.32.0", "torch": "2.13.0"},
    **{"transformers": "5.19.0", "vllm_prm": "0.1.0", "tiny": False},
}


def turns(*seconds, scores=(), **tokens):
    return {"seconds": list(seconds), "scores": list(scores), **tokens}


def figures(way, seconds, p95, scores):
    work = turns(seconds, 2 * seconds, 3 * seconds, scores=scores, sent=[3000, 3000, 3000])
    search = turns(seconds, seconds, sent=[1000, 1000], cached=[800, 600], ideal=[200, 390])
    bursts = [{"p95": p95}, {"p95": 2 * p95}, {"p95": 3 * p95}]
    return {"way": way, "nothing shared": work, "one question": work, "searches": {"12": search}, "bursts": bursts}


def piece(outcome="passed", why=None, **answer):
    said = {"outcome": outcome, "seconds": 31.4, "date": "2026-11-25T03:00:00+00:00", "commit": "abc"}
    return said | ({"why": why} if why else {}) | ({"answer": answer} if answer else {})


@pytest.fixture
def document():
    pieces = {
        "check llama": piece(
            runner="V2",
            prompts=[60, 700],
            again={"mean": 0.0012, "largest": 0.0101},
            **{"cached again": [48, 688]},
        ),
        "check tp2": piece("not possible here", why="needs two GPUs"),
        "tests scores": piece(tests=40, passed=39),
        "figures llama ours": piece(**figures("ours", 1.0, 0.5, [[0.2, 0.8]])),
        "figures llama native": piece(**figures("native", 4.0, 1.0, [[0.21, 0.79]])),
    }
    return {"machine": MACHINE, "pieces": pieces}


def rows(document):
    """Cells of all lines of all tables."""
    lines = markdown(document).splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]


def test_a_machine_is_named(document):
    text = markdown(document)
    assert text.startswith("1 × NVIDIA H100 (81559 MiB, driver 570.1), 16 cores, 128 GiB, x86_64; vLLM 0.32.0, ")
    assert "mean nothing" not in text
    assert "**Small shapes: these figures mean nothing.**" in markdown(
        {**document, "machine": {**MACHINE, "tiny": True}}
    )


def test_every_piece_has_a_row_with_what_it_found_or_why_not(document):
    table = {row[0]: row[1:] for row in rows(document)}
    found = "runner V2, cached 736 of 760 tokens, scores away 0.0012 in the mean, 0.0101 at most"
    assert table["check llama"] == ["passed", "31", "2026-11-25", "abc", found]
    assert table["check tp2"] == ["not possible here", "31", "2026-11-25", "abc", "needs two GPUs"]
    assert table["tests scores"][-1] == "39 of 40 tests"
    assert table["figures llama ours"][-1] == "1,500 tokens/s where nothing is shared"


def test_ratios_say_how_many_times_as_fast_ours_is(document):
    native = "the native route (`token_classify`)"
    table = rows(document)
    assert ["llama: throughput, nothing shared", "4.00 × (4.00 to 4.00)", native, "3"] in table
    assert ["llama: speed, search of 12 rounds", "4.00 × (4.00 to 4.00)", native, "2"] in table
    assert ["llama: p95 behind a long solution", "0.50 × the wait", native, "3"] in table
    assert ["llama: scores", "0.0100 away, at most 0.0100", native, ""] in table


def test_tokens_computed_stand_beside_those_that_reuse_leaves(document):
    tokens = [
        "llama: tokens, search of 12 rounds",
        "600 computed of 2,000",
        "590 that reuse of whole blocks leaves",
        "2",
    ]
    assert tokens in rows(document)


def test_figures_without_ours_make_no_ratio(document):
    document["pieces"]["figures llama ours"] = piece("timed out", why="no line\nkilled after 240 s")
    assert not any(row[0].startswith("llama:") for row in rows(document))
    assert faults(document) == ["figures llama ours: timed out"]


def test_what_a_machine_cannot_do_is_no_fault(document):
    assert faults(document) == []


@pytest.mark.parametrize("wrong", [[0.5, 0.5], [float("nan"), 0.8], [0.2]], ids=["away", "not a number", "missing"])
def test_scores_of_another_way_that_are_not_ours_are_a_fault(document, wrong):
    away = copy.deepcopy(document)
    away["pieces"]["figures llama native"]["answer"]["one question"]["scores"] = [wrong]
    (sentence,) = faults(away)
    assert sentence.startswith("llama: scores of native are ")


def test_a_report_of_pytest_is_counted():
    passed = '<testcase classname="e2e.a" name="one"/>'
    skipped = '<testcase classname="e2e.a" name="two"><skipped/></testcase>'
    failed = '<testcase classname="e2e.a" name="three"><failure message="0.3"/></testcase>'
    broken = '<testcase classname="e2e.b" name="four"><error message="no GPU"/></testcase>'

    def counted(*cases):
        return count(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")

    assert counted(passed, skipped) == {"tests": 2, "passed": 1}
    assert counted(passed, failed, broken) == {"tests": 3, "passed": 1, "failed": "e2e.a::three; e2e.b::four"}
    assert counted(skipped) == {"tests": 1, "passed": 0, "failed": "no test ran"}
