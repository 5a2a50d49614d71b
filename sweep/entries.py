"""What the tables of architectures are made of: an Entry for each architecture that SMALL sizes alone do not fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Engine options. vLLM picks a bfloat16 kernel for MLA on CPUs with AMX; its other one computes in float32.
MLA_IN_FLOAT32: dict[str, Any] = {"attention_config": {"backend": "CPU_MLA"}}


@dataclass(frozen=True)
class Entry:
    """How to make one architecture small.

    model_type: whose config class is filled; "" is the one that transformers lists for the architecture.
    fields: of config.json, beyond (or instead of) sizes.SMALL.
    options: of the engine.
    dtype: bfloat16 where a kernel takes nothing else.
    whole: `fields` are the whole config.json, for a class that does not read back what it writes.
    """

    model_type: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    whole: bool = False
