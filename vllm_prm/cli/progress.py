"""What a person sees on stderr while a run goes on: a progress bar, and sentences that do not break it."""

from __future__ import annotations

import sys

from tqdm import tqdm  # type: ignore[import-untyped]

_LOG_INTERVAL_S = 30.0  # between two lines of progress in a log file: a run of hours stays readable
_TERMINAL_INTERVAL_S = 0.1  # tqdm's own default


def progress_bar(quiet: bool, total: int | None, answered: int) -> tqdm:
    """A bar over lines. total: None if it is not known. answered: lines that an earlier run has answered."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=answered,
        unit=" lines",
        file=sys.stderr,
        disable=quiet,
        dynamic_ncols=terminal,
        mininterval=_TERMINAL_INTERVAL_S if terminal else _LOG_INTERVAL_S,
    )


def say(message: str) -> None:
    """A line on stderr that does not break a progress bar."""
    tqdm.write(f"vllm-prm: {message}", file=sys.stderr)
