"""tools/version_results.py: what docs/versions.md makes of pytest's reports."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import version_results  # noqa: E402 - tools are no package

CASE = '<testcase classname="{}" name="{}">{}</testcase>'
SEAM, ENGINE, SERVER = "tests.contract.test_seams", "tests.e2e.test_scores", "tests.e2e.test_http"


@pytest.fixture
def report(tmp_path):
    """report("name", case, ...): the path of a report with these cases."""

    def write(name: str, *cases: tuple[str, str, str]) -> str:
        path = tmp_path / f"{name}.xml"
        path.write_text(
            f"<testsuites><testsuite>{''.join(CASE.format(*case) for case in cases)}</testsuite></testsuites>"
        )
        return str(path)

    return write


def test_a_row_counts_by_kind_and_says_what_failed_and_what_was_not_run(report):
    row = version_results.row(
        [
            report(
                "first",
                (SEAM, "test_a", ""),
                (SEAM, "test_b", '<skipped message="no such field: run it with vLLM 0.32"/>'),
                (ENGINE, "test_c", "<failure/>"),
                (SERVER, "test_d[1.0]", "<error/>"),
            ),
            report("again", (SERVER, "test_d[1.0]", "")),
        ]
    )
    assert row["counts"] == {
        "seams": {"passed": 1, "skipped": 1},
        "engine": {"passed": 0, "failed": 1},
        "HTTP": {"passed": 1},
    }
    assert row["failed"] == ["tests/e2e/test_scores.py::test_c"]
    assert "tests/e2e/test_lora.py" in row["not_run"]
    assert "tests/e2e/test_http.py" not in row["not_run"]
    notes = version_results.notes(row)
    assert "- Failed: `tests/e2e/test_scores.py::test_c`" in notes
    assert "- 1 skipped: no such field: run it with vLLM 0.32." in notes
    assert "`test_lora`" in notes


def test_a_row_with_another_versions_kernels_says_so(report):
    row = {**version_results.row([report("all", (SEAM, "test_a", ""))]), "vllm": "0.33.0", "kernels": "0.32.0"}
    assert "**0.33.0's Python over 0.32.0's kernels**" in version_results.notes(row)


def test_a_test_in_a_class_is_of_its_file(report):
    row = version_results.row([report("all", ("tests.e2e.test_heads.TestFallback", "test_a", ""))])
    assert row["counts"]["engine"] == {"passed": 1}
    assert "tests/e2e/test_heads.py" not in row["not_run"]


def test_unit_tests_are_no_tests_of_a_version(report):
    row = version_results.row([report("all", ("tests.unit.test_cli", "test_a", ""), (SERVER, "test_b", ""))])
    assert [row["counts"][kind]["passed"] for kind in version_results.KINDS] == [0, 0, 1]
