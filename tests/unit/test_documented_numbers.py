"""The figures on the README and in benchmarks/README.md are those of the runs that are committed, rounded as shown."""

from __future__ import annotations

import json
import re

import pytest
from documentation import ROOT, text


def run_of(benchmark: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / f"{benchmark}.json").read_text("utf-8"))


def rows(page: str, first: str) -> list[list[str]]:
    """The rows of the page's table whose head begins with this cell, without the head."""
    table = text(page).partition(f"\n| {first} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


SEARCHES = run_of("search")["table"]
OVER = run_of("best_of_n")["throughput_of_whole_over"]
GPU = {
    tuple(row[:1] + row[2:3]): row[1] for row in rows("docs/gpu.md", f"{'figure':<36}")
}  # written by benchmarks/gpu from results/gpu.json


def on_the_gpu(figure: str, way: str) -> str:
    """Our figure against that way: the first number of its cell, or "X of Y" for tokens."""
    (cell,) = [cell for (name, other), cell in GPU.items() if name == f"llama: {figure}" and way in other]
    return cell


def test_the_table_of_the_readme():
    searches, tokens, native, forward = (row[1:] for row in rows("README.md", "measured"))
    beams = [row for row in SEARCHES if row["search"] == "beam search"]
    assert [row["rounds"] for row in beams] == [12, 24, 40]
    assert searches[0] == ", ".join(f"{row['native_over_ours']:.1f}" for row in beams)
    speeds = [float(on_the_gpu(f"speed, search of {rounds} rounds", "native").split()[0]) for rounds in (12, 24, 40)]
    assert searches[1] == ", ".join(f"{speed:.1f}" for speed in speeds)
    assert tokens[0] == f"{beams[2]['computed']:,} of {beams[2]['sent']:,}"
    assert tokens[1] == on_the_gpu("tokens, search of 40 rounds", "reuse").replace(" computed", "")
    for shown, way, there in ((native, "native", "native"), (forward, "floor", "forward pass")):
        assert shown[0] == f"{OVER[way]['median']:.2f}"
        assert shown[1] == on_the_gpu("throughput, nothing shared", there).split()[0]


@pytest.mark.parametrize("number", range(len(SEARCHES)))
def test_the_table_of_searches(number):
    row, shown = SEARCHES[number], rows("benchmarks/README.md", "search, rounds")[number]
    assert shown[0].endswith(f", {row['rounds']}")
    assert shown[0].startswith("DVTS" if row["search"] == "DVTS" else "4 beams")
    assert shown[1:] == [
        *(f"{row[name]:,}" for name in ("sent", "computed", "ideal")),
        *(f"{row[name]:.1f} s" for name in ("native_s", "ours_s")),
        f"{row['native_over_ours']:.1f}×",
    ]


def test_what_is_said_of_searches():
    said = text("benchmarks/README.md")
    shares = [round(100 * row["share"]) for row in SEARCHES]
    assert f"Between {min(shares)} and {max(shares)} %" in said
    slow = run_of("search")["slow_peers_over_ours"]
    assert f"`prompt_logprobs` takes {slow['logprobs']:.0f} times as long as ours" in said
    assert f"card's recipe {slow['transformers']:.0f} times" in said


def test_the_table_of_best_of_n():
    def shown(ratio: dict) -> str:
        return f"{ratio['median']:.2f} ({ratio['quarter']:.2f} to {ratio['three_quarters']:.2f})"

    cells = [cell for _, cell in rows("benchmarks/README.md", "throughput of ours over")]
    mean = run_of("mean_lengths")["throughput_of_whole_over"]
    assert cells[0].startswith(shown(OVER["floor"]))
    assert cells[1] == shown(OVER["native"])
    assert cells[2] == f"{shown(mean['floor'])} and {shown(mean['native'])}"
    assert cells[3] == f"{OVER['logprobs']['median']:.0f} / {OVER['transformers']['median']:.0f}"
    assert cells[4] == shown(run_of("best_of_n")["reuse_over_none"])


def test_what_is_said_of_http():
    said = re.sub(r"\s+", " ", text("benchmarks/README.md"))
    over = {row["concurrency"]: row["over_offline"] for row in run_of("http_singles")["table"] if row["way"] == "ours"}
    assert f"32 under way: {over[32]:.2f} of the throughput" in said
    assert f"(8 under way: {over[8]:.2f}, one: {over[1]:.2f})" in said
    ratios = run_of("host_http")["ratios"]
    assert f"`/v1/prm/score` has {ratios['score / embeddings text']:.2f} times the throughput" in said
    assert f"`PRMClient.score_batch` {ratios['client / embeddings text']:.1f} times" in said


def test_the_machines_are_named():
    assert "two CPU cores" in text("README.md")
    assert run_of("search")["machine"] == run_of("best_of_n")["machine"] == "2 cores, x86_64"
    assert "one H100" in text("README.md")
    assert "H100" in run_of("gpu")["machine"]["gpu"]
