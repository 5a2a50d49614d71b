"""Benchmark files -> a Benchmark. The format is known by the fields of a file's first object.

FORMATS is the one list of benchmarks; what a format's objects hold is for the format to say.
"""

from __future__ import annotations

import codecs
import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.evaluate.benchmark import Benchmark, ExampleT, Format, Reading
from vllm_prm.evaluate.bestofn import BestOfN
from vllm_prm.evaluate.mathshepherd import MathShepherd
from vllm_prm.evaluate.prm800k import PRM800K
from vllm_prm.evaluate.prmbench import PRMBench
from vllm_prm.evaluate.processbench import ProcessBench
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.stepwise import Stepwise
from vllm_prm.evaluate.visualprocessbench import VisualProcessBench
from vllm_prm.inputs import shown
from vllm_prm.jsonl import read_lines
from vllm_prm.recipes import Recipe
from vllm_prm.recipes.types import Neutral

FORMATS: tuple[Format[Any], ...] = (
    ProcessBench(),
    PRMBench(),
    BestOfN(),
    PRM800K(),
    MathShepherd(),
    Stepwise(),
    VisualProcessBench(),
)


def load_benchmark(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    format: str | None = None,
    neutral: Neutral | None = None,
    recipe: Recipe | None = None,
    all_completions: bool = False,
    images: str | os.PathLike[str] | None = None,
) -> Benchmark[Any]:
    """Read one file or several, each JSON lines or one JSON list of objects. A file is a split, named as the file is.

    format: the name of one of FORMATS; None: known by the fields of each file's first object.
    neutral: PRM800K and VisualProcessBench only: what steps rated 0 count as, "good", "bad", or "skip": they are not
        measured. None: as the recipe counts them; without one, or where it does not say, as the data's authors do.
    recipe: of the model that is measured.
    all_completions: PRM800K only: also measure candidates of a step that were rated and not taken.
    images: the folder below which the images lie that the files name; None: that of each file.
    Raises RequestError that names the file and line for what cannot be read, has no known format, or another format
    than the file before it; and for `neutral` and `all_completions` with another format.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    if not files:
        raise RequestError("no benchmark files; expected one or more")
    folder = None if images is None else Path(images)
    records = {name: _read(file, folder or file.parent) for name, file in _split_names(files).items()}
    formats = [_recognised(split[0]) if format is None else _named(format) for split in records.values()]
    for file, other in zip(files, formats, strict=True):
        if other is not formats[0]:
            raise RequestError(
                f"{file} is a {other.name} file and {files[0]} a {formats[0].name} one; evaluate them one by one"
            )
    if neutral is None and recipe is not None and formats[0].neutral is not None:
        neutral = recipe.neutral
    return _parsed(formats[0].read_as(Reading(neutral, all_completions)), records)


def _split_names(files: Sequence[Path]) -> dict[str, Path]:
    """A file's name without its ending; the whole path if that name is taken."""
    by_name: dict[str, Path] = {}
    for file in files:
        name = file.stem if file.stem not in by_name else str(file)
        if name in by_name:
            raise RequestError(f"{file} is given twice")
        by_name[name] = file
    return by_name


def _named(name: str) -> Format[Any]:
    by_name = {candidate.name: candidate for candidate in FORMATS}
    if name not in by_name:
        raise RequestError(f"no benchmark format {name!r}; there are {', '.join(by_name)}")
    return by_name[name]


def _recognised(record: Record) -> Format[Any]:
    for candidate in FORMATS:
        if candidate.fits(record.fields):
            return candidate
    known = "; ".join(f"{candidate.name}: {', '.join(candidate.fields)}" for candidate in FORMATS)
    raise RequestError(
        f"{record.place}: no known benchmark has the fields {', '.join(record.fields) or '(none)'}. Expected {known}"
    )


def _parsed(file_format: Format[ExampleT], records: dict[str, list[Record]]) -> Benchmark[ExampleT]:
    splits = {name: tuple(map(file_format.parse, split)) for name, split in records.items()}
    return Benchmark(file_format, splits)


def _read(file: Path, images: Path) -> list[Record]:
    """The file's objects, one or more. images: the folder of those that they name."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error}") from error
    is_list = content.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    records = _entries(file, content) if is_list else _lines(file, content)
    if not records:
        raise RequestError(f"{file} is empty; expected one JSON object on each line")
    return [replace(record, images=images) for record in records]


def _lines(file: Path, content: bytes) -> list[Record]:
    records = []
    for line in read_lines([io.BytesIO(content)]):
        place = f"{file}, line {line.number}"
        if line.value is None:
            raise RequestError(f"{place}: {line.fault}")
        records.append(Record(line.value, place))
    return records


def _entries(file: Path, content: bytes) -> list[Record]:
    """The objects of a file that is one JSON list."""
    try:
        entries = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{file}: not a JSON list: {error}") from error
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise RequestError(f"{file}, entry {i}: {shown(entry)}, not an object; expected a list of objects")
    return [Record(entry, f"{file}, entry {i}") for i, entry in enumerate(entries)]
