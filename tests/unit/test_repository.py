"""Files that a forge or a person reads: actions have versions, and every `make` target that is named exists."""

from __future__ import annotations

import re

import pytest
import yaml
from conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
PAGES = [page for pattern in ("*.md", "docs/*.md", "benchmarks/*.md") for page in sorted(ROOT.glob(pattern))]
NAMING = [*WORKFLOWS, ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run", *PAGES]


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in (job, *job.get("steps", ()))]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_have_exact_versions_and_jobs_a_time_limit(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    actions = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert actions
    assert [name for name in actions if not re.search(r"@v\d+\.\d+\.\d+$|^\./", name)] == []
    assert [name for name, job in workflow["jobs"].items() if not {"timeout-minutes", "uses"} & set(job)] == []
    assert workflow["permissions"] == {"contents": "read"}


def test_pushes_run_what_a_person_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert commands == ["make check", ".ci/run", "make wheel"]
    assert "make test 2>&1" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_a_commit_runs_the_checks_of_make_only():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["entry"]) == ("local", "make check")


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.name)
def test_named_targets_exist(path):
    named = set(re.findall(r"(?:^|`|run: |entry: |&& )make ([a-z]+)\b", path.read_text("utf-8"), re.MULTILINE))
    assert named - TARGETS == set()


def test_help_lists_the_targets_that_people_type():
    listed = set(re.findall(r'@echo "make ([a-z]+)', MAKEFILE))
    assert listed <= TARGETS
    assert {"demo", "test", "check", "wheel"} <= listed
