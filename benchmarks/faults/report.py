"""What the pieces found, as the table of docs/reliability.md: one row per fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpu.pieces import PASSED, last_line
from tables import table

BEGIN = "<!-- results: written by benchmarks/faults, not by hand -->"
Answer = Mapping[str, Any]


def markdown(document: Mapping[str, Any]) -> str:
    of = document["machine"]
    machine = f"{of['cpu_cores']} cores ({of['architecture']}), {of['gpus'] or 'no'} GPU, {of['memory_gib']} GiB"
    software = f"Python {of['python']}, vLLM {of['vllm']}, torch {of['torch']}"
    titles = ["fault", "what was found", "held", "date", "commit"]
    lines = [
        f"{machine}, {software}; the tiny PRM in float32.",
        "",
        *table(titles, _rows(document["pieces"]), padded=False),
    ]
    return "\n".join(lines) + "\n"


def _rows(pieces: Mapping[str, Any]) -> list[list[str]]:
    return [
        [fault, found, held, result["date"][:10], result["commit"]]
        for name in ROWS
        if (result := pieces.get(name)) is not None
        for fault, found, held in _of_piece(name, result)
    ]


def _of_piece(name: str, result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    answer = result.get("answer")
    held = "yes" if result["outcome"] == PASSED else f"no: {last_line(result)}"
    if answer and answer.get("hung"):
        held = "no, and not without us"  # `work` calls it failed if it holds without us
    if answer is None:
        return [(name, f"{result['outcome']}", held)]
    if name in SEVERAL:
        return [(fault, SEVERAL[name](found), held) for fault, found in answer.items() if fault != "failed"]
    title, words = ROWS[name]
    return [(title, words(answer), held)]


def _died(answer: Answer) -> str:
    ends = ", ".join(f"{count} × {status}" for status, count in answer["ends"].items())
    found = [
        f"{answer['under way']} requests under way: {ends}",
        f"the first {answer['noticed_s']} s after the fault, all within {answer['slowest_s']} s of it",
        f"the server ended after {answer['server gone_s']} s",
    ]
    if hung := answer.get("hung"):
        found.append(f"{sum(hung.values())} had no answer until their clients left ({_plain(hung)})")
        found.append(f"without us: {_plain(answer['without us']['hung'])}")
    if left := answer.get("left behind"):
        alone = ", ".join(answer.get("left behind without us", [])) or "not tried"
        found.append(f"left behind: {', '.join(left)} (without us: {alone})")
    return "; ".join(found)


def _killed(answer: Answer) -> str:
    found = [
        _died(answer),
        f"`vllm-prm score` had {answer['lines at death']:,} of {answer['lines']:,} lines",
        f"it went on when a server was back: exit status {answer['exit status']}, each line once",
        _away(answer),
    ]
    return "; ".join(found)


def _tokenizer(answer: Answer) -> str:
    first = answer["/v1/prm/score"].partition(":")[0]
    return f"HTTP {first}, the message names the exception; others of the same request scored, {_away(answer)}"


def _hostile(answer: Answer) -> str:
    kinds, warm = answer["by kind"], answer["warm"]
    drawn = sum(toll["by kind"].get("from the schema", 0) for toll in (warm, answer))
    found = [
        f"{answer['sent'] + warm['sent']:,} requests, {drawn:,} drawn by schemathesis from the OpenAPI document",
        ", ".join(f"{count:,} × {status}" for status, count in answer["by status"].items()),
        f"{kinds['right'] + warm['by kind']['right']:,} right ones among them, {_away(answer)}",
        f"memory {answer['growth']:+.1%} after the first tenth{_by_process(answer)}",
    ]
    if vllms := answer["without us"]:
        found.append(f"{len(vllms)} kinds of 5xx, all vLLM's own: it answers so without us, too ({', '.join(vllms)})")
    return "; ".join(found)


def _by_process(answer: Answer) -> str:
    """Where the memory is, of answers that say it."""
    if not isinstance(answer["mebibytes"][0], list):
        return ""
    (front, below), (front_end, below_end) = answer["mebibytes"]
    shares = f"front end {front_end / front - 1:+.1%}, engine {below_end / below - 1:+.1%}"
    return f" and {answer.get('warmed_s', 0):.0f} s of load ({shares})"


def _soak(answer: Answer) -> str:
    cached = answer["prefix_cache_hits"] / answer["prefix_cache_queries"]
    found = [
        f"{answer['seconds']:,.0f} s, {answer['concurrency']} at once",
        f"{answer['answered']:,} answers, {answer['left']:,} requests left by their clients",
        f"{answer['step scores compared']:,} step scores compared, {_away(answer)}",
        f"{answer['num_preemptions']:,.0f} preemptions, {cached:.0%} of tokens cached",
        f"slowest answer {answer['slowest_s']} s",
        f"memory {answer['growth']:+.1%} after the first ten minutes",
    ]
    return "; ".join(found)


def _away(answer: Answer) -> str:
    return f"largest difference {answer['largest difference']:.0e}"


def _plain(found: Any) -> str:
    """Figures as they are: each has few."""
    if not isinstance(found, Mapping):
        return f"{found:.2g}" if isinstance(found, float) else str(found)
    parts = [f"{name}: {_plain(value)}" for name, value in found.items()]
    return "; ".join(parts)


# By piece: what is done, and what its answer says.
ROWS: dict[str, tuple[str, Callable[[Answer], str]]] = {
    "hostile": ("hostile requests", _hostile),
    "soak": ("an hour of requests that evict, preempt and are left", _soak),
    "engine killed": ("the engine's process killed", _killed),
    "out of memory": ("the worker out of memory (RLIMIT_AS)", _died),
    "tokenizer raises": ("the tokenizer raises", _tokenizer),
    "terminated": ("SIGTERM under load", _died),
    "drained": ("SIGTERM under load, `--shutdown-timeout 60`", _died),
    "command line": ("command line", _plain),
    "slow clients": ("clients", _plain),
}
SEVERAL = {"command line": _plain, "slow clients": _plain}  # pieces with a row for each of their faults
