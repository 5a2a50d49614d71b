"""What pip installs: the files in the wheel, and the packages that it asks for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from email import message_from_bytes
from zipfile import ZipFile

import pytest
from conftest import ROOT

PACKAGE = ROOT / "vllm_prm"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as an open ZIP archive, built from a copy: setuptools leaves its work beside what it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, source / "vllm_prm", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, out], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = out.glob("*.whl")
    with ZipFile(path) as archive:
        yield archive


def dist_info(wheel, name: str) -> bytes:
    return wheel.read(f"vllm_prm-{PROJECT['version']}.dist-info/{name}")


def test_the_wheel_has_every_file_of_the_package(wheel):
    files = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {"vllm_prm/py.typed", "vllm_prm/report/report.css", "vllm_prm/report/report.js"} <= files
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files


def test_the_wheel_has_the_license_and_both_plugins(wheel):
    assert dist_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    entry_points = dist_info(wheel, "entry_points.txt").decode()
    for section in ("[console_scripts]", "[vllm.general_plugins]", "[vllm.endpoint_plugins]"):
        assert section in entry_points


def test_the_metadata_says_where_the_project_lives(wheel):
    metadata = message_from_bytes(dist_info(wheel, "METADATA"))
    links = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert set(links) == {"Homepage", "Repository", "Changelog", "Issues"}
    assert all(link.startswith("https://github.com/vllm-prm/vllm-prm") for link in links.values())
    assert metadata["License-Expression"] == "Apache-2.0"


def test_every_dependency_has_a_lower_bound():
    assert all(">=" in requirement for requirement in PROJECT["dependencies"])
