"""Every architecture that the installed vLLM registers, with its entry and its engine options.

The tables of entries are joined here and nowhere else. An architecture without an entry gets an empty one.
"""

from __future__ import annotations

from typing import Any

from sweep.audio import AUDIO
from sweep.entries import Entry
from sweep.multimodal import MULTIMODAL
from sweep.omni import OMNI
from sweep.text import TEXT

ENTRIES: dict[str, Entry] = {**TEXT, **MULTIMODAL, **OMNI, **AUDIO}


def entry(architecture: str) -> Entry:
    return ENTRIES.get(architecture, Entry())


def registered() -> dict[str, list[str]]:
    """The names of the installed vLLM's generation architectures, under "Text" and under "Multimodal"."""
    from vllm.model_executor.models import registry

    return {"Text": [*registry._TEXT_GENERATION_MODELS], "Multimodal": [*registry._MULTIMODAL_MODELS]}


def engine_options(architecture: str) -> dict[str, Any]:
    """Multimodal models run without their towers, for prompts of text."""
    text_only = {"language_model_only": True} if architecture in registered()["Multimodal"] else {}
    return {**text_only, **entry(architecture).options}
