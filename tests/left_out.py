"""Tests that were left out, said aloud: one line above pytest's closing line, with every reason and its remedy.

A pytest plugin; conftest.py takes its hook. It knows no test: a reason for a skip carries its own remedy, as
"what is missing: what to do", which tests/unit/test_left_out.py checks for every skip in tests/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost, so that what it writes comes after all other summaries
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    yield
    skipped = [
        (report.nodeid.split("::")[0], report.longrepr[2].removeprefix("Skipped: "))
        for report in terminalreporter.stats.get("skipped", ())
    ]
    if skipped:
        terminalreporter.write_line(left_out(skipped), red=True, bold=True)


def left_out(skipped: Iterable[tuple[str, str]]) -> str:
    """One line about all tests that were skipped. skipped: the file and the reason of each."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for file, reason in skipped:
        files[reason].append(file)
    parts = [f"{len(paths)} in {', '.join(sorted(set(paths)))}: {reason}" for reason, paths in files.items()]
    return f"*** {sum(map(len, files.values()))} TESTS WERE NOT RUN. {'. '.join(parts)}. ***"
