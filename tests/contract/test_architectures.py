"""docs/architectures.md has a row for every generation architecture of the installed vLLM, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from vllm.model_executor.models import registry

TABLE = Path(__file__).parents[2] / "docs" / "architectures.md"
OUTCOMES = ("verified", "refused", "not buildable here")  # "not right" and "not tried" are failures


def rows() -> list[tuple[str, str]]:
    """(architecture, what is known of it)"""
    found = re.findall(r"^\| `(\w+)` \| (.+?) \|$", TABLE.read_text(), re.MULTILINE)
    return [(name, rest) for name, rest in found]


def registered() -> set[str]:
    return {*registry._TEXT_GENERATION_MODELS, *registry._MULTIMODAL_MODELS}


def test_every_architecture_has_one_row():
    names = [name for name, _ in rows()]
    assert len(names) == len(set(names)), "an architecture has two rows"
    missing, gone = registered() - set(names), set(names) - registered()
    assert not missing, f"no row for {sorted(missing)}: run `make sweep`"
    assert not gone, f"rows for {sorted(gone)}, which this vLLM does not register: run `make sweep`"


def test_every_row_says_what_is_known():
    for name, rest in rows():
        outcome = rest.split("|")[0].strip()
        assert outcome in OUTCOMES, f"{name}: {outcome!r}"
        if outcome == "verified":
            assert re.search(r"\d\.?\d*e[-+]\d\d", rest), f"{name} is verified, but its row has no measured difference"
        else:
            assert len(rest.split("|")[-1].strip()) > 10, f"{name} is {outcome}, but its row does not say why"
