"""What docs/integrations.md says of a stack, with the address of a server that runs, and the solutions all are asked.

Beside it one program for each stack that is tested as it is installed: it runs the stack's section of that page, lets
the stack's own code call ours, and prints what came back as JSON. A program of its own, because stacks patch what they
import. tests/e2e/test_stacks.py runs them.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from fenced import blocks
from score_requests import QUESTION, RIGHT, WRONG

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
ASKED, GENERATOR = "http://localhost:8000", "http://localhost:8001"


def text(steps: list[str]) -> str:
    return "\n".join(f"Step {k}: {step}" for k, step in enumerate(steps, 1))


SOLUTIONS = [text(RIGHT), text(WRONG), ""]  # the last one cannot be scored
CHATML = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]

TOO_LONG = "12 + 5 = 17 " * 1000  # as one step


def openr_text(solution: str) -> str:
    """What OpenR makes of it (reason/inference/rm_call.py at 54ae004), with the format and the tag that its
    reason/evaluation/evaluate.py has for Math-Shepherd."""
    return f"{QUESTION} " + " ки\n".join([*solution.split("\n"), ""])


def block(stack: str, url: str, generator: str = GENERATOR) -> str:
    """The code in the section of that name, asking that server."""
    (section,) = [part for part in PAGE.read_text("utf-8").split("\n## ") if part.startswith(f"{stack}\n")]
    (found,) = blocks(section)
    assert ASKED in found.text
    return found.text.replace(ASKED, url).replace(GENERATOR, generator)


def run(stack: str, url: str, generator: str = GENERATOR, **given: Any) -> dict[str, Any]:
    """What the section's code has defined. given: names that it takes as the reader's."""
    names = dict(given)
    exec(compile(block(stack, url, generator), f"{PAGE.name}, {stack}", "exec"), names)
    return names


def words(stack: str, url: str) -> list[str]:
    """The section's command lines as a shell reads them."""
    return shlex.split(block(stack, url).replace("\\\n", " "))


def url_argument() -> str:
    return sys.argv[1]


def answer(**values: Any) -> None:
    print("\n" + json.dumps(values))
