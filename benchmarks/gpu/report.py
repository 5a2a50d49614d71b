"""What the pieces said, as two tables in Markdown: one of all pieces, one of the ratios between ways to score."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from tables import table

from gpu.pieces import PASSED

BEGIN = "<!-- results: written by benchmarks/gpu, not by hand -->"
# Of a probability, in the mean, between two ways to score in bfloat16; scores of other tokens are 0.2 away.
MEAN = 0.03
NAMES = {
    "floor_reuse": "the forward pass alone (vLLM's own embedding)",
    "native": "the native route (`token_classify`)",
    "token_logprobs": "`prompt_logprob_token_ids`",
    "logprobs_time": "`prompt_logprobs=20`",
}
Document = Mapping[str, Any]
Answers = Mapping[str, Mapping[str, Any]]  # per way to score


def markdown(document: Document) -> str:
    machine = document["machine"]
    gpus = f"{machine['gpus']} × {machine['gpu']}" if machine["gpus"] else "no GPU"
    lines = [
        f"{gpus} ({machine['gpu_memory']}, driver {machine['driver']}), {machine['cpu_cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['architecture']}; vLLM {machine['vllm']}, torch {machine['torch']}, "
        f"transformers {machine['transformers']}, Python {machine['python']}, vllm-prm {machine['vllm_prm']}.",
        *(["", "**Small shapes: these figures mean nothing.**"] if machine["tiny"] else []),
        "",
        *table(["piece", "outcome", "seconds", "date", "commit", ""], _pieces(document)),
    ]
    figures = list(_figures(document))
    if figures:
        lines += ["", *table(["figure", "ours", "against", "turns"], figures)]
    return "\n".join(lines) + "\n"


def faults(document: Document) -> list[str]:
    """Pieces that did not pass where they could run, and ways whose scores are not those of ours."""
    sentences = [
        f"{name}: {result['outcome']}"
        for name, result in document["pieces"].items()
        if result["outcome"] not in (PASSED, "not possible here")
    ]
    for shape in ("llama", "mistral"):
        for way, (mean, _) in _differences(_answers(document, shape)).items():
            if not mean <= MEAN:
                sentences.append(f"{shape}: scores of {way} are {mean:.2g} away from ours in the mean, allowed {MEAN}")
    return sentences


def _pieces(document: Document) -> list[list[str]]:
    return [
        [name, result["outcome"], f"{result['seconds']:.0f}", result["date"][:10], result["commit"], _remark(result)]
        for name, result in document["pieces"].items()
    ]


def _remark(result: Mapping[str, Any]) -> str:
    """The reason why it did not pass, or what it found."""
    if result["outcome"] != PASSED:
        return result["why"].strip().splitlines()[-1][:200]
    answer = result["answer"]
    if "tests" in answer:
        return f"{answer['passed']} of {answer['tests']} tests"
    if "way" in answer:
        work = answer["nothing shared"]
        speed = statistics.median(
            tokens / seconds for tokens, seconds in zip(work["sent"], work["seconds"], strict=True)
        )
        return f"{speed:,.0f} tokens/s where nothing is shared"
    worst = answer.get("again") or max(filter(_is_distance, answer.values()), key=lambda found: found["largest"])
    away = f"scores away {worst['mean']:.4f} in the mean, {worst['largest']:.4f} at most"
    if "runner" not in answer:
        return away
    cached, sent = sum(answer["cached again"]), sum(answer["prompts"])
    return f"runner {answer['runner']}, cached {cached} of {sent} tokens, {away}"


def _is_distance(found: Any) -> bool:
    """Whether it is what Findings.close notes."""
    return isinstance(found, dict) and "largest" in found


def _answers(document: Document, shape: str) -> Answers:
    """By the way that ran, of the figures that passed."""
    results = {name: result for name, result in document["pieces"].items() if name.startswith(f"figures {shape} ")}
    return {result["answer"]["way"]: result["answer"] for result in results.values() if result["outcome"] == PASSED}


def _figures(document: Document) -> Iterator[list[str]]:
    for shape in ("llama", "mistral"):
        answers = _answers(document, shape)
        if "ours" not in answers:
            continue
        others = [way for way in answers if way != "ours"]
        for work in ("nothing shared", "one question"):
            for way in others:
                yield _ratio(f"{shape}: throughput, {work}", way, answers["ours"][work], answers[way][work])
        for way in others:
            for rounds, turns in answers[way]["searches"].items():
                yield _ratio(
                    f"{shape}: speed, search of {rounds} rounds", way, answers["ours"]["searches"][rounds], turns
                )
        for rounds, turns in answers["ours"]["searches"].items():
            yield [f"{shape}: tokens, search of {rounds} rounds", *_tokens(turns)]
        for way in others:
            if answers[way]["bursts"]:
                yield _waiting(shape, way, answers)
        for way, (mean, largest) in _differences(answers).items():
            yield [f"{shape}: scores", f"{mean:.4f} away, at most {largest:.4f}", NAMES[way], ""]


def _ratio(name: str, way: str, ours: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """How many times as fast ours is: the median over turns, and the quarter to either side."""
    ratios = sorted(b / a for a, b in zip(ours["seconds"], other["seconds"], strict=True))
    quarter = len(ratios) // 4
    spread = f"{statistics.median(ratios):.2f} × ({ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f})"
    return [name, spread, NAMES[way], str(len(ratios))]


def _tokens(turns: Mapping[str, Any]) -> list[str]:
    sent, cached, ideal = (sum(turns[name]) for name in ("sent", "cached", "ideal"))
    return [
        f"{sent - cached:,} computed of {sent:,}",
        f"{ideal:,} that reuse of whole blocks leaves",
        str(len(turns["sent"])),
    ]


def _waiting(shape: str, way: str, answers: Answers) -> list[str]:
    p95 = {each: statistics.median(burst["p95"] for burst in answers[each]["bursts"]) for each in ("ours", way)}
    count = str(len(answers["ours"]["bursts"]))
    return [f"{shape}: p95 behind a long solution", f"{p95['ours'] / p95[way]:.2f} × the wait", NAMES[way], count]


def _differences(answers: Answers) -> dict[str, tuple[float, float]]:
    """Mean and largest difference of probabilities to ours, per way that scores; infinite if a step is missing."""
    differences = {}
    for way, answer in answers.items():
        if way == "ours" or "ours" not in answers or not answer["nothing shared"]["scores"]:
            continue
        pairs = [
            pair
            for work in ("nothing shared", "one question")
            for pair in zip(answers["ours"][work]["scores"], answer[work]["scores"], strict=True)
        ]
        if any(len(mine) != len(its) for mine, its in pairs):
            differences[way] = (math.inf, math.inf)
            continue
        away = [abs(a - b) for mine, its in pairs for a, b in zip(mine, its, strict=True)]
        differences[way] = (statistics.mean(away), max(away))
    return differences
