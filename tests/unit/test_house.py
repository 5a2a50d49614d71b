"""The rules of the house (tests/house.py) hold in this repository."""

from __future__ import annotations

import tomllib

import pytest
from conftest import ROOT
from house import (
    BETWEEN_PROCESSES,
    BROUGHT_BY,
    LEVELS,
    between_processes,
    heavy_outside_the_engine,
    importing_the_engine,
    in_circles,
    pointing_up,
    room,
    too_long,
    undeclared,
)
from sources import Sources

import vllm_prm

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def assert_none(sentences: list[str]) -> None:
    assert not sentences, "\n".join(["", *sentences])


@pytest.fixture(scope="module")
def house() -> Sources:
    return Sources(ROOT, ("vllm_prm", "sweep"), scripts=("benchmarks", "examples"))


def test_no_import_goes_in_a_circle(house):
    assert_none(in_circles(house))


def test_the_lazy_table_is_read(house):
    """Else its imports would be missing from every check here, without a word."""
    assert set(house.handed_on["vllm_prm"]) >= {*vllm_prm.__all__} - {"__version__"}


def test_imports_between_the_rooms_point_down(house):
    assert_none(pointing_up(house))
    rooms = {room(source.path) for source in house.packages.values()} - {""}
    assert {name for names in LEVELS for name in names} == rooms, "LEVELS names what is no longer there"


def test_only_the_command_line_imports_the_engine_and_only_the_engine_imports_vllm(house):
    assert_none(importing_the_engine(house))
    assert_none(heavy_outside_the_engine(house))


def test_the_processes_of_the_engine_import_nothing_of_each_other(house):
    assert_none(between_processes(house, BETWEEN_PROCESSES))


def test_files_and_functions_are_short():
    assert_none(too_long(Sources(ROOT, ("vllm_prm", "sweep"), scripts=("benchmarks",))))


def test_every_imported_package_is_declared():
    extras = PROJECT.get("optional-dependencies", {}).values()
    requirements = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]
    assert_none(undeclared(Sources(ROOT, ("vllm_prm",)), requirements, BROUGHT_BY))
