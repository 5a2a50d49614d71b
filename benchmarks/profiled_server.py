"""`vllm serve` whose event loop can be profiled: SIGUSR1 starts a profile, the next one ends it and writes it.

The API server's main thread runs the event loop, and Python runs signal handlers in the main thread, so what is
profiled is the loop and nothing else. Nothing of the product is wrapped or changed. A profile makes every Python call
dearer: its shares are to be read, not its times.

    python benchmarks/profiled_server.py FOLDER serve MODEL ...    profiles are FOLDER/0.prof, FOLDER/1.prof, ...
"""

from __future__ import annotations

import cProfile
import pstats
import signal
import sys
from collections import defaultdict
from pathlib import Path

# Where a function's file lies says whose time it is. The first that fits counts.
_OWNERS = (
    ("/vllm_prm/", "vllm-prm"),
    ("/vllm/", "vLLM"),
    ("/fastapi/", "FastAPI, Starlette, uvicorn"),
    ("/starlette/", "FastAPI, Starlette, uvicorn"),
    ("/uvicorn/", "FastAPI, Starlette, uvicorn"),
    ("/prometheus_fastapi_instrumentator/", "FastAPI, Starlette, uvicorn"),
)
REST = "other libraries"
_WAITING = ("run_until_complete", "epoll", "select")  # built-in functions whose own time is the loop's idle time


class _Switch:
    """Turns the profile of the main thread on and off."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.written = folder, 0
        self.profile: cProfile.Profile | None = None

    def __call__(self, *_: object) -> None:
        if self.profile is None:
            self.profile = cProfile.Profile()
            self.profile.enable()
            return
        self.profile.disable()
        target = self.folder / f"{self.written}.prof"
        self.profile.dump_stats(target.with_suffix(".part"))
        target.with_suffix(".part").rename(target)  # whoever waits for the file finds all of it
        self.profile, self.written = None, self.written + 1


def shares(path: Path) -> dict[str, float]:
    """Whose code how much of a profile's time was, without the loop's idling; a built-in function's is its callers'."""
    seconds: dict[str, float] = defaultdict(float)
    for (file, _, name), (_, _, own, _, callers) in pstats.Stats(str(path)).stats.items():  # type: ignore[attr-defined]
        if file != "~":
            seconds[_owner(file)] += own
        elif not any(waiting in name for waiting in _WAITING):
            for (caller_file, _, _), (_, _, own_there, _) in callers.items():
                seconds[_owner(caller_file)] += own_there
    total = sum(seconds.values())
    return {owner: own / total for owner, own in seconds.items()}


def _owner(file: str) -> str:
    return next((owner for part, owner in _OWNERS if part in file), REST)


def main() -> None:
    folder, *arguments = sys.argv[1:]
    signal.signal(signal.SIGUSR1, _Switch(Path(folder)))
    from vllm.entrypoints.cli.main import main as vllm

    sys.argv = ["vllm", *arguments]
    vllm()


if __name__ == "__main__":
    main()
