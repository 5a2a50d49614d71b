"""docs/architectures.md has a row for every generation architecture that a tested vLLM registers, and no other.

The tables of sweep/, which the document is written from, name no other architecture either.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from vllm.model_executor.models import registry

from sweep.audio import AUDIO
from sweep.generation import allowed
from sweep.kinds import KINDS
from sweep.multimodal import MULTIMODAL
from sweep.omni import OMNI
from sweep.reasons import REASONS
from sweep.rows import GENERATION_ROWS, last_rows
from sweep.text import TEXT
from sweep.versions import registered_by_version, spans
from vllm_prm.engine.compat import vllm_version

TABLE = Path(__file__).parents[2] / "docs" / "architectures.md"
OUTCOMES = ("verified", "refused", "not buildable here")  # "not right" and "not tried" are failures
RENEW = "`python -m sweep.run --new` with this vLLM and `python -m sweep.report` (CONTRIBUTING.md, the sweep)"


def rows() -> list[tuple[str, list[str]]]:
    """(architecture, the other cells of its row)"""
    lines = re.findall(r"^\| `(\w+)` \| (.+?) \|$", TABLE.read_text(), re.MULTILINE)
    return [(name, [cell.strip() for cell in cells.split("|")]) for name, cells in lines]


def registered() -> set[str]:
    return {name for groups in registered_by_version().values() for names in groups.values() for name in names}


def test_the_installed_vllm_registers_what_the_sweep_says():
    version = vllm_version().partition("+")[0]
    assert registered_by_version()[version] == {
        "Text": [*registry._TEXT_GENERATION_MODELS],
        "Multimodal": [*registry._MULTIMODAL_MODELS],
    }, f"run `python -m sweep.versions` with this vLLM, then {RENEW}"


def test_every_architecture_has_one_row():
    names = [name for name, _ in rows()]
    assert len(names) == len(set(names)), "an architecture has two rows"
    missing, gone = registered() - set(names), set(names) - registered()
    assert not missing, f"no row for {sorted(missing)}: {RENEW}"
    assert not gone, f"rows for {sorted(gone)}, which no tested vLLM registers: {RENEW}"


def test_a_row_says_which_vllm_registers_its_architecture():
    expected = {name: span for by_name in spans(registered_by_version()).values() for name, span in by_name.items()}
    assert {name: cells[0] for name, cells in rows()} == expected, RENEW


def test_versions_without_a_gap_are_a_span():
    by_version = {
        f"0.{minor}.0": {"Text": names, "Multimodal": []}
        for minor, names in {29: ["A", "B", "D"], 30: ["A", "B"], 31: ["A", "C", "D"], 32: ["A", "D"]}.items()
    }
    assert spans(by_version)["Text"] == {"A": "all", "B": "0.29 to 0.30", "C": "0.31", "D": "0.29, 0.31 to 0.32"}


def test_every_row_says_what_is_known():
    for name, cells in rows():
        _, outcome, _, difference, note = cells
        assert outcome in OUTCOMES, f"{name}: {outcome!r}"
        if outcome == "verified":
            assert re.fullmatch(r"\d\.\de[-+]\d\d", difference), f"{name} is verified, and its row has no difference"
        else:
            assert len(note) > 10, f"{name} is {outcome}, but its row does not say why"


@pytest.mark.parametrize(
    "table",
    [TEXT, MULTIMODAL, OMNI, AUDIO, REASONS, KINDS],
    ids=["text", "multimodal", "omni", "audio", "reasons", "kinds"],
)
def test_the_tables_of_the_sweep_name_registered_architectures(table):
    gone = set(table) - registered()
    assert not gone, f"no tested vLLM registers {sorted(gone)}: take them out"


def test_no_architecture_has_two_entries():
    names = [*TEXT, *MULTIMODAL, *OMNI, *AUDIO]
    assert len(names) == len(set(names))


def test_every_kind_of_head_was_compared_with_a_generation_engine():
    compared = last_rows(GENERATION_ROWS)
    for name in KINDS:
        assert name in compared, f"no row for {name}: run `python -m sweep.oracle {name}`"
        assert "why" not in compared[name], f"{name}: {compared[name]['why']}"
        assert compared[name]["difference"] <= allowed(compared[name]), name
