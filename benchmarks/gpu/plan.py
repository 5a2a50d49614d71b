"""Which pieces there are, in which order, with which time limits.

A piece starts one or two engines. A limit is two to four times what the piece took on an H100 (docs/gpu.md), so that
what reaches it hangs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gpu.machine import ROOT
from gpu.pieces import Piece

CHECK_S, TESTS_S, FIGURES_S = 100, 300, 200  # seconds
# The first piece reads vLLM's and torch's libraries from a cold disk, and compiles; FlashInfer may compile its kernels;
# the first figures of a checkpoint write it, 16 GB.
LONGER = {
    "check llama": 200,
    "check served": 200,
    "check flashinfer": 200,
    "figures llama ours": 200,
    "figures mistral ours": 200,
}
CHECKS = ("llama", "served", "generating", "flashinfer", "tp2", "mla", "mistral", "invariant", "modelopt")
# Starting an engine takes most of the time, so Mistral has only the two ways whose ratio says what a search gains.
FIGURES = {"llama": ("ours", "floor_reuse", "native", "token_logprobs"), "mistral": ("ours", "native")}
ENVIRONMENT = {
    "check tp2": {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"},
    "check invariant": {"VLLM_BATCH_INVARIANT": "1"},
    "check served": {"VLLM_PLUGINS": "prm"},
}
TINY_FACTOR = 4  # a CPU takes longer to start an engine


def weights_of(shape: str, weights: Path, tiny: bool) -> Path:
    """The folder of a checkpoint of the figures, in the folder `weights` that may have others."""
    return weights / f"vllm-prm-{shape}{'-tiny' if tiny else ''}"


def plan(weights: Path, tiny: bool) -> list[Piece]:
    """weights: folder for the checkpoints of figures. tiny: small shapes, and time for a CPU."""
    limits = {f"check {name}": CHECK_S for name in CHECKS} | {"tests scores": TESTS_S}
    limits |= {f"figures {shape} {way}": FIGURES_S for shape, ways in FIGURES.items() for way in ways}
    limits |= {"tests attention": TESTS_S} | LONGER  # these tests last: they start fourteen engines
    python_path = ":".join([str(ROOT / "benchmarks"), str(ROOT)])
    options = ["--weights", str(weights), *(["--tiny"] if tiny else [])]
    return [
        Piece(
            name,
            [sys.executable, "-m", "gpu.work", *options, name],
            limit_s * (TINY_FACTOR if tiny else 1),
            {"PYTHONPATH": python_path, **ENVIRONMENT.get(name, {})},
        )
        for name, limit_s in limits.items()
    ]
