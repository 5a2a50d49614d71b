"""The browser in which the report's tests open a page: where it is, and how `make setup` gets it.

Run as a script it installs Chromium where it may: Debian or Ubuntu, as root. It never fails, for all other tests run
without a browser; a line on stderr says what is missing. It knows nothing of the report and needs only Python's
standard library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REMEDY = "put `chromium` or `google-chrome` on PATH (Debian: apt-get install chromium)"
LIMIT_S = 600  # for one apt-get; Chromium with its libraries is about 100 MB
APT = ("apt-get", "-qq", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20")  # s; no network ends soon


def browser() -> str | None:
    """The path of an installed browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def install() -> str | None:
    """Installs Chromium by apt-get. None if there is a browser afterwards, else why there is none."""
    if browser() is not None:
        return None
    if shutil.which("apt-get") is None:
        return "there is no apt-get here"
    if os.geteuid() != 0:
        return "only root may run apt-get"
    # What is known of the packages may be nothing, or too old: then apt-get is told to look again, once.
    error = _apt("install", "--yes", "--no-install-recommends", "chromium")
    if error is not None:
        error = _apt("update") or _apt("install", "--yes", "--no-install-recommends", "chromium")
    if error is None and browser() is None:  # a distribution whose package is called so and holds something else
        error = "apt-get installed a package chromium without such a command"
    return error


def _apt(*words: str) -> str | None:
    """Runs one apt-get quietly. None if it succeeded, else the last line that it wrote."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [*APT, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stdout.strip().splitlines() or [f"apt-get {words[0]} ended with {done.returncode}"])[-1]


if __name__ == "__main__":
    reason = install()
    if reason is not None:
        print(f"*** NO BROWSER ({reason}): the report's tests will be left out. Remedy: {REMEDY}. ***", file=sys.stderr)
