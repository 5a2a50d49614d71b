"""Which vLLM registers which generation architectures: `python -m sweep.versions`, run with each vLLM in turn.

One line of sweep/versions.jsonl for each tested vLLM; the line of the installed one is replaced. The line of a vLLM
that is no longer tested is taken out by hand. Starts no engine.
"""

from __future__ import annotations

import json
from pathlib import Path

from sweep.architectures import registered

VERSIONS = Path(__file__).with_name("versions.jsonl")


def registered_by_version() -> dict[str, dict[str, list[str]]]:
    """{vLLM's version: as `architectures.registered`}, the oldest vLLM first."""
    lines = VERSIONS.read_text().splitlines() if VERSIONS.exists() else []
    by_version = {row.pop("vllm"): row for row in map(json.loads, lines)}
    return dict(sorted(by_version.items(), key=lambda item: _numbers(item[0])))


def spans(by_version: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, str]]:
    """{"Text" or "Multimodal": {architecture: the versions that register it, as "all", "0.33" or "0.29 to 0.31"}}.

    Versions without a gap are written as a span. by_version: the oldest first.
    """
    texts: dict[str, dict[str, str]] = {}
    for kind in ("Text", "Multimodal"):
        names = {name for groups in by_version.values() for name in groups[kind]}
        texts[kind] = {
            name: _span([name in groups[kind] for groups in by_version.values()], by_version) for name in names
        }
    return texts


def _span(registers: list[bool], versions: dict[str, dict[str, list[str]]]) -> str:
    """registers: for each version, whether it registers the architecture."""
    if all(registers):
        return "all"
    short = [version.rpartition(".")[0] for version in versions]
    runs: list[list[str]] = []
    for index, version in enumerate(short):
        if not registers[index]:
            continue
        if index and registers[index - 1]:
            runs[-1].append(version)
        else:
            runs.append([version])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def main() -> None:
    from vllm import __version__

    version = __version__.partition("+")[0]
    by_version = registered_by_version() | {version: registered()}
    rows = sorted(by_version.items(), key=lambda item: _numbers(item[0]))
    VERSIONS.write_text("".join(json.dumps({"vllm": version, **groups}) + "\n" for version, groups in rows))
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in by_version[version].items())
    print(f"vLLM {version} registers {counts} architectures")


if __name__ == "__main__":
    main()
