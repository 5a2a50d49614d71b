"""Benchmark files -> examples. The format is told by the fields of a file's first line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.evaluate import bestofn, prmbench, processbench
from vllm_prm.evaluate.fields import Line

Example = processbench.Example | prmbench.Example | bestofn.Example

FORMATS: dict[str, Any] = {"processbench": processbench, "prmbench": prmbench, "best-of-n": bestofn}


@dataclass(frozen=True)
class Benchmark:
    """The examples of one or more files of one format. kind: a key of FORMATS. splits: by file name, in order."""

    kind: str
    splits: Mapping[str, tuple[Example, ...]]

    @property
    def solutions(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every (question, steps) to score, in the order in which scores are expected."""
        return [solution for split in self.splits.values() for example in split for solution in example.solutions]


def load_benchmark(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Benchmark:
    """Read one file or several, each JSON lines or one JSON list of objects. A file is a split, named as the file is.

    Raises RequestError that names the file and line for what cannot be read, has no known format, or another format
    than the file before it.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    if not files:
        raise RequestError("no benchmark files; expected one or more")
    kind, splits = "", {}
    for file in files:
        lines = _lines(file)
        found = _format(lines[0])
        if kind and found != kind:
            raise RequestError(f"{file} is a {found} file and {files[0]} a {kind} one; evaluate them one by one")
        kind = found
        name = file.stem if file.stem not in splits else str(file)
        if name in splits:
            raise RequestError(f"{file} is given twice")
        splits[name] = tuple(FORMATS[kind].Example.parse(line) for line in lines)
    return Benchmark(kind, splits)


def _format(line: Line) -> str:
    for kind, module in FORMATS.items():
        if all(field in line.raw for field in module.FIELDS):
            return kind
    known = "; ".join(f"{kind}: {', '.join(module.FIELDS)}" for kind, module in FORMATS.items())
    raise RequestError(
        f"{line.where}: no known benchmark has the fields {', '.join(map(str, line.raw)) or '(none)'}. Expected {known}"
    )


def _lines(file: Path) -> list[Line]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {file}: {error}") from error
    if text.lstrip().startswith("["):
        entries = _parse(text, str(file))
        lines = [_line(raw, f"{file}, entry {i}") for i, raw in enumerate(entries)]
    else:
        # Not splitlines(): U+2028 and the like may stand inside a JSON string.
        numbered = [(f"{file}, line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        lines = [_line(_parse(line, where), where) for where, line in numbered]
    if not lines:
        raise RequestError(f"{file} is empty; expected one JSON object on each line")
    return lines


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"{where}: not JSON ({error.msg}, column {error.colno})") from error


def _line(raw: Any, where: str) -> Line:
    if not isinstance(raw, Mapping):
        raise RequestError(f"{where}: found a {type(raw).__name__}; expected a JSON object")
    return Line(raw, where)
