"""Vocabulary pieces: how a vocabulary spells a token, and the text that it stands for."""

from __future__ import annotations

SPACE_MARKS = "▁Ġ"  # how sentencepiece (▁) and byte-level BPE (Ġ) write a leading space in a piece


def piece_text(piece: str) -> str:
    """A vocabulary piece as the text it stands for: `▁ки` and `ĠÐºÐ¸` are both ` ки`."""
    try:
        return bytes(_BYTE_OF_LETTER[letter] for letter in piece).decode()
    except (KeyError, UnicodeDecodeError):
        return piece.replace("▁", " ")


def _byte_of_letter() -> dict[str, int]:
    """Byte-level BPE (GPT-2) writes a byte as a letter: itself if printable in Latin-1, else the next from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_LETTER = _byte_of_letter()
