"""Memory of processes (Linux): the most that this one held during some work; an allocator that keeps what it has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@contextmanager
def keeping_freed_memory(wanted: bool = True) -> Iterator[None]:
    """Processes started inside, if `wanted`, give no memory back to the system (glibc; mallopt(3)).

    By default glibc may or may not return an activation's memory after every operation and fault it in again in the
    next, depending on what was freed during start-up. Two boots of the *same* engine then differ: 72,768 page faults a
    turn of 3,000 tokens in one, 25,998 in the other.
    """
    settings = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)} if wanted else {}
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@dataclass
class Peak:
    """Bytes resident: before the work, and the most during it. Zero where the system does not tell."""

    before: int = 0
    most: int = 0


@contextmanager
def peak_of() -> Iterator[Peak]:
    """Peak resident memory of the block: the kernel's high-water mark, set back to the present value first."""
    peak = Peak()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): 5 resets VmHWM to the current resident size
        peak.before = _status("VmRSS")
    except OSError:
        yield peak
        return
    try:
        yield peak
    finally:
        peak.most = _status("VmHWM")


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
