"""No test is left out in silence: the line about skipped tests, and .ci/run, whose last line is pytest's."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import browser
import pytest
from conftest import ROOT

SKIPPING = """
import pytest

@pytest.mark.parametrize("number", range(2))
@pytest.mark.skipif(True, reason="no browser: install one")
def test_in_a_browser(number): pass

def test_elsewhere(): pytest.skip("no second core: find one")

def test_runs(): pass
"""


def pytest_output(folder: Path, test: str) -> list[str]:
    (folder / "test_made.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "left_out", "-p", "no:cacheprovider", "test_made.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_one_line_names_every_reason_just_above_the_closing_line(tmp_path):
    *_, line, closing = pytest_output(tmp_path, SKIPPING)
    assert line == (
        "*** 3 TESTS WERE NOT RUN. 2 in test_made.py: no browser: install one. "
        "1 in test_made.py: no second core: find one. ***"
    )
    assert "1 passed, 3 skipped" in closing


def test_nothing_is_said_when_all_tests_ran(tmp_path):
    assert "NOT RUN" not in "\n".join(pytest_output(tmp_path, "def test_runs(): pass"))


def test_every_reason_in_this_folder_carries_its_remedy():
    reasons = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".skip", ".skipif", ".importorskip")):
                (reason, *_) = [word.value for word in node.keywords if word.arg == "reason"] or node.args
                reasons.append((f"{path.name}:{node.lineno}", ast.unparse(reason)))
    assert len(reasons) >= 4  # the browser's, and three for tests that need two cores
    assert [(where, reason) for where, reason in reasons if ": " not in reason] == []


# ---- .ci/run


def ci_run(folder: Path, output: str, status: int) -> subprocess.CompletedProcess[str]:
    """.ci/run with a `make` that prints `output` and ends with `status`."""
    (folder / "output").write_text(output)
    make = folder / "make"
    make.write_text(f'#!/bin/sh\ncat "{folder}/output"\nexit {status}\n')
    make.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("closing", "status"),
    [
        ("============ 3 passed, 2 skipped in 4.21s =============", 0),
        ("==== 1 failed, 3 passed in 3661.02s (1:01:01) ====", 2),
        ("============ 1 error in 0.50s ============", 2),
        ("============ no tests ran in 0.01s ============", 2),
    ],
)
def test_ci_ends_with_the_closing_line_and_its_status(tmp_path, closing, status):
    loud = "*** 2 TESTS WERE NOT RUN. 2 in a.py: 1 error in 2s: install one. ***"
    end = f"make: *** [Makefile:50: test] Error {status}\n" if status else ""
    done = ci_run(tmp_path, f"ruff check .\n{loud}\n{closing}\n{end}", status)
    assert done.stdout.splitlines()[-1] == closing
    assert loud in done.stdout.splitlines()
    assert done.returncode == status


def test_ci_fails_with_a_set_up_that_fails(tmp_path):
    done = ci_run(tmp_path, "no such package\n", 2)
    assert (done.returncode, done.stdout) == (2, "no such package\n")


# ---- how the browser is got


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without a browser; a function that gives it an apt-get, which is that shell script."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def with_apt_get(script: str) -> None:
        path = tmp_path / "apt-get"
        path.write_text(f'#!/bin/sh\n[ "$DEBIAN_FRONTEND" = noninteractive ] || exit 9\n{script}\n')
        path.chmod(0o755)

    return with_apt_get


def test_a_machine_without_apt_get_has_a_reason(bare):
    assert browser.install() == "there is no apt-get here"


def test_only_root_installs(bare, monkeypatch):
    bare("exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert browser.install() == "only root may run apt-get"


def test_no_network_is_a_reason_and_no_error(bare, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    bare('echo "Reading"; echo "E: Could not resolve host"; exit 100')
    assert browser.install() == "E: Could not resolve host"


def test_the_list_of_packages_is_fetched_when_the_first_try_fails(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    folder = tmp_path
    bare(
        f'case "$*" in\n*update*) : > {folder}/updated;;\n'
        f"*install*chromium) [ -e {folder}/updated ] || exit 100\n"
        f"  echo '#!/bin/sh' > {folder}/chromium; /bin/chmod +x {folder}/chromium;;\nesac"
    )
    assert browser.install() is None
    assert browser.browser() == str(folder / "chromium")


def test_a_package_without_the_command_is_a_reason(bare, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    bare("exit 0")
    assert browser.install() == "apt-get installed a package chromium without such a command"
