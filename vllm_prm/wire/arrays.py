"""Rows of numbers in a body: as JSON's lists, or packed into one string, a fifth as long and read without a parser.

Packed: base64 (RFC 4648, section 4) of little-endian float32, row by row, as vLLM packs embeddings. Logits are float32,
so they cross the wire exactly either way; probabilities are float64, and packing rounds them.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence

import numpy as np

from vllm_prm.errors import EngineError
from vllm_prm.inputs import shown

Rows = list[list[float]] | str  # [steps, scoring tokens], as lists or packed
_PACKED = np.dtype("<f4")


def packed(rows: np.ndarray | Sequence[Sequence[float]]) -> str:
    """Rows [steps, scoring tokens] as one string. The number of columns is not in it."""
    return b64encode(np.ascontiguousarray(rows, dtype=_PACKED).data).decode("ascii")


def unpacked(rows: Rows, width: int) -> np.ndarray:
    """Rows of a response -> [steps, width], float32 if packed, else float64. Raises EngineError if they are no such."""
    try:
        if isinstance(rows, str):
            return np.frombuffer(b64decode(rows, validate=True), dtype=_PACKED).reshape(-1, width)
        return np.array(rows, dtype=np.float64).reshape(len(rows), width)
    except ValueError as error:  # binascii's is one, too
        raise EngineError(
            f"the server sent {shown(rows)}; expected rows of {width} numbers, or the base64 of their float32 bytes"
        ) from error
