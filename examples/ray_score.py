"""Score a dataset over a Ray cluster: JSONL and Parquet files in, a folder of scored parts out.

    python examples/ray_score.py solutions.jsonl more.parquet -o scored --model my-prm --engines 8 --gpus 1

A row has a question and steps, as a line of `vllm-prm score` has, and gets the same numbers. Each input is cut into
parts of --rows rows, and a part's file appears when all of it is scored. After an interruption of any kind type the
same command again: parts that are there are not scored again. Their names, sorted, are in the order of the inputs.
Inputs and output lie where every machine of the cluster sees them. Needs `pip install 'vllm-prm[ray]'` beside vLLM.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow.parquet as parquet
import ray

from vllm_prm import PRM
from vllm_prm.integrations.ray_data import StepScorer
from vllm_prm.jsonl import parsed_line


@dataclass(frozen=True)
class Part:
    """Rows of a file. first: the first one's number. begin: where that is, in Parquet a row of `group`, else a byte."""

    source: str
    output: str
    first: int
    count: int
    begin: int
    group: int = 0


class PartScorer(StepScorer):
    """What an actor does with parts: scores and writes them, and tells how many rows and errors there were."""

    def __call__(self, table):
        counts = [self.write(Part(**row)) for row in table.to_pylist()]
        rows, errors = zip(*counts, strict=True)
        return table.append_column("rows", [rows]).append_column("errors", [errors])

    def write(self, part: Part) -> tuple[int, int]:
        unfinished = Path(f"{part.output}.unfinished")
        if part.source.endswith(".parquet"):
            group = parquet.ParquetFile(part.source).read_row_group(part.group)
            scored = super().__call__(group.slice(part.begin, part.count))
            errors = scored["error"].to_pylist()
            parquet.write_table(scored, unfinished)
        else:
            answers = list(self.answers(part))
            errors = [answer.get("error") for answer in answers]
            unfinished.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")
        os.replace(unfinished, part.output)  # whole, or not there at all
        return len(errors), len(errors) - errors.count(None)

    def answers(self, part: Part) -> Iterator[dict]:
        with open(part.source, "rb") as file:
            file.seek(part.begin)
            texts = [text.rstrip() for text in islice(file, part.count)]
        lines = [parsed_line(part.first + number, text) for number, text in enumerate(texts, 1) if text]
        scored = iter(self.scored([line.value for line in lines if line.value is not None]))
        for line in lines:
            yield {"line": line.text, "error": line.fault} if line.value is None else next(scored)


def parts_of(number: int, path: Path, folder: Path, size: int) -> Iterator[Part]:
    """The parts of an input, in order. number: of the input."""

    def part(first: int, *rest: int) -> Part:
        return Part(str(path), str(folder / f"{number:04}-{path.stem}-{first:012}{path.suffix}"), first, *rest)

    first = begin = 0
    if path.suffix == ".parquet":
        metadata = parquet.read_metadata(path)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            for start in range(0, rows, size):
                yield part(first + start, min(size, rows - start), start, group)
            first += rows
        return
    with path.open("rb") as file:
        while lines := list(islice(file, size)):
            yield part(first, len(lines), begin)
            first, begin = first + len(lines), begin + sum(map(len, lines))


def check_plan(folder: Path, plan: dict) -> None:
    """What is in the folder was made by this plan, or there is nothing yet. Ends the program if it was not."""
    folder.mkdir(parents=True, exist_ok=True)
    written, text = folder / "plan.json", json.dumps(plan, indent=1)
    if not written.exists():
        unfinished = folder / "plan.json.unfinished"
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, written)
    elif written.read_text("utf-8") != text:
        raise SystemExit(f"{written} is of another run: other inputs, model or options. Name another folder with -o")


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("inputs", nargs="+", type=Path, help=".jsonl or .parquet files")
    options.add_argument("-o", "--output", type=Path, required=True, help="a folder")
    options.add_argument("--model", required=True, help="name or folder of a PRM")
    options.add_argument("--recipe", help="as of vllm-prm score; not needed for a known model")
    options.add_argument("--rows", type=int, default=2000, help="of a part (2000)")
    options.add_argument("--engines", type=int, default=1, help="how many, each with its GPUs (1)")
    options.add_argument("--gpus", type=float, default=1, help="of an engine; 0: on the CPU (1)")
    options.add_argument("--vllm", type=json.loads, default={}, help='more for the engine: \'{"dtype": "float32"}\'')
    return options.parse_args()


def main() -> None:
    given = arguments()
    inputs, folder = [path.resolve() for path in given.inputs], given.output.resolve()
    model = str(Path(given.model).resolve()) if Path(given.model).exists() else given.model
    plan = {"inputs": [[str(path), path.stat().st_size] for path in inputs], "rows": given.rows}
    check_plan(folder, {**plan, "model": model, "recipe": given.recipe, "vllm": given.vllm})
    parts = [part for i, path in enumerate(inputs) for part in parts_of(i, path, folder, given.rows)]
    left = [part for part in parts if not Path(part.output).exists()]
    print(f"{len(parts) - len(left)} of {len(parts)} parts are there", flush=True)
    if not left:
        return
    scored = ray.data.from_items([asdict(part) for part in left]).map_batches(
        PartScorer,
        fn_constructor_args=[partial(PRM, model, given.recipe, **given.vllm)],
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=given.engines),
        num_gpus=given.gpus,
    )
    rows = errors = 0
    for part in scored.iter_rows():
        rows, errors = rows + part["rows"], errors + part["errors"]
    print(f"{rows} rows in {len(left)} parts" + (f', {errors} of them have an "error"' if errors else ", all scored"))


if __name__ == "__main__":  # vLLM starts processes that import this file again
    main()
