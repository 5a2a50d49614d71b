"""A page's code blocks, the commands in them, and whether an output is the one that is printed there.

It knows nothing of what the commands do. Its one promise: a number, a name or a sign that differs is noticed, unless
the page itself leaves it out ("...") or MASKS says why it differs in every run. White space and line breaks do not
count, for pages wrap long lines.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

# An output's number may be this far from the page's, and by no more than that share of it: a score of 1e-05 is
# smaller than TOLERANCE, and would otherwise match any other small score.
TOLERANCE, SHARE = 1e-4, 0.01

MASKS = (
    (r'"(embd|prm)-[0-9a-f]{16}"', r'"\1-ID"'),  # a request's id
    (r'"created":\d{10}', '"created":TIME'),  # s since 1970
    (r"--port \d+", "--port PORT"),  # a free one
    (r"ready after \d+ s", "ready after SECONDS s"),
)
ELIDED = "..."
TOKEN = re.compile(r"\.\.\.|[^\W\d]\w*|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[^\w\s]")


@dataclass(frozen=True)
class Block:
    """glued: it begins on the line after another block's end, as an output does that stands below its code."""

    language: str
    text: str
    glued: bool = False

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]


def blocks(markdown: str) -> list[Block]:
    """Every fenced block in order. Raises ValueError for fences that are none to the rest of this file."""
    found, end = [], None
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$\n?", markdown, re.DOTALL | re.MULTILINE):
        found.append(Block(match[1], match[2], match.start() == end))
        end = match.end()
    fences = re.findall(r"^[ >]*(?:```|~~~).*", markdown, re.MULTILINE)
    if len(fences) != 2 * len(found):
        raise ValueError(f"{len(fences)} fences for {len(found)} blocks; expected ``` and at most a word")
    return found


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a block that starts with "$ ", each with the output that stands below it.

    A command goes on over the next line while a quotation is open.
    """
    pairs: list[tuple[str, str]] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            pairs.append((line[2:], ""))
        elif _is_open(pairs[-1][0]):
            pairs[-1] = (pairs[-1][0] + line, "")
        else:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] + line)
    return pairs


def difference(shown: str, printed: str) -> str | None:
    """None if `printed` is what the page shows, else a message. `...` in `shown` stands for any text, or none."""
    words = _words(printed)
    runs = _between_elisions(_words(shown))
    start = 0
    for number, run in enumerate(runs):
        last_start = len(words) - len(run)
        if number == 0 == len(runs) - 1 and last_start != 0:
            places = []
        elif number == 0:
            places = [0]
        elif number == len(runs) - 1:
            places = [last_start]
        else:
            places = list(range(start, last_start + 1))
        place = next((place for place in places if place >= start and _is_at(run, words, place)), None)
        if place is None:
            return f"the page shows\n  {_up_to_the_difference(run, words[start:])}\nand this is printed:\n{printed}"
        start = place + len(run)
    return None


def _is_open(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:  # "No closing quotation"
        return True
    return False


def _words(text: str) -> list[str]:
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return TOKEN.findall(text)


def _between_elisions(words: list[str]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    for word in words:
        if word == ELIDED:
            runs.append([])
        else:
            runs[-1].append(word)
    return runs


def _up_to_the_difference(run: list[str], words: list[str]) -> str:
    """The words of the page that are printed at that place, and the first that is not, marked."""
    common = next((i for i, pair in enumerate(zip(run, words, strict=False)) if not _same(*pair)), len(words))
    return " ".join([*run[:common], *(f">>>{word}<<<" for word in run[common : common + 1])])


def _is_at(run: list[str], words: list[str], place: int) -> bool:
    there = words[place : place + len(run)]
    return len(there) == len(run) and all(map(_same, run, there))


def _same(shown: str, printed: str) -> bool:
    if shown == printed:
        return True
    if not (_is_fraction(shown) and _is_fraction(printed)):
        return False  # counts, indices and ids are whole numbers, and exact
    return abs(float(shown) - float(printed)) <= min(TOLERANCE, SHARE * abs(float(shown)))


def _is_fraction(word: str) -> bool:
    return word[0].isdigit() and not word.isdigit()
