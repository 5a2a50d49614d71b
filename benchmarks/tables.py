"""Tables in Markdown, and the pages that hold them between marks."""

from __future__ import annotations

from pathlib import Path

END = "<!-- end of results -->"


def into_file(path: Path, text: str, begin: str) -> None:
    """Put `text` between the marks `begin` and END of the file. Raises ValueError if it has none."""
    before, mark, after = path.read_text("utf-8").partition(begin)
    _, end, after = after.partition(END)
    if not (mark and end):
        raise ValueError(f"{path} has no {begin} and {END}: put both where the results are to stand")
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{END}{after}", "utf-8")


def table(titles: list[str], rows: list[list[str]], padded: bool = True) -> list[str]:
    """Lines. padded: with columns of one width, so that it can be read as it is, unless its cells are sentences."""
    cells = [titles, *([cell.replace("|", "/") for cell in row] for row in rows)]
    widths = [max(map(len, column)) if padded else 0 for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * max(3, width + 2) for width in widths) + "|", *lines[1:]]
