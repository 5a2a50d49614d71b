"""Questions that hold images: how users write them, checked; and what else is asked of them.

A question is a text, or a list of content parts as a chat message of OpenAI's API holds them, in vLLM's spelling:

    {"type": "text", "text": "..."}
    {"type": "image_url", "image_url": {"url": "https://... or data:image/png;base64,... or file:///..."}}
    {"type": "image_pil", "image_pil": a PIL image}     in this process only

Nothing here opens an image or an address. Parts with other fields are refused: vLLM takes a "uuid" for what its cache
knows an image by, and two images of one uuid would share their scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.inputs import checked_text, shown

Question = str | list[dict[str, Any]]

_EXPECTED = 'expected {"type": "text", "text": ...} or {"type": "image_url", "image_url": {"url": ...}}'


def checked_question(value: Any, name: str = "question", *, pil: bool = False) -> Question:
    """A text, or parts of which at least one is an image; parts that are all texts come back as one text, a line each.

    pil: whether images may be PIL's. Raises RequestError that names the part which is wrong.
    """
    if not isinstance(value, list | tuple):
        return checked_text(value, name)
    if not value:
        raise RequestError(f"{name} is an empty list; {_EXPECTED}")
    parts = [_checked_part(part, f"part {number} of {name}", pil) for number, part in enumerate(value, 1)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def question_text(question: Question) -> str:
    """The texts alone, a line each."""
    if isinstance(question, str):
        return question
    return "\n".join(part["text"] for part in question if part["type"] == "text")


def image_urls(question: Question) -> list[str | None]:
    """The address of each image, in order; None of one that has none."""
    if isinstance(question, str):
        return []
    images = [part for part in question if part["type"] != "text"]
    return [part["image_url"]["url"] if part["type"] == "image_url" else None for part in images]


def question_key(question: Question) -> Hashable:
    """Equal for questions that are the same. One with a PIL image is the same while that image is the same object."""
    if isinstance(question, str):
        return question
    return tuple(
        (part["type"], id(part["image_pil"]) if part["type"] == "image_pil" else json.dumps(part)) for part in question
    )


def question_digest(question: Question) -> int:
    """64 bits of a question without PIL images, which tell nothing of it: the same in every process."""
    text = question if isinstance(question, str) else json.dumps(question)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _checked_part(part: Any, name: str, pil: bool) -> dict[str, Any]:
    if not isinstance(part, Mapping):
        raise RequestError(f"{name} is {shown(part)}; {_EXPECTED}")
    kind = part.get("type")
    if kind == "image_pil" and not pil:
        raise RequestError(
            f'{name} is a PIL image, which only PRM takes, in its own process; send "image_url" with a data URL '
            '("data:image/png;base64," and the file in base64)'
        )
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RequestError(f"{name} has {f'the type {shown(kind)}' if 'type' in part else 'no type'}; {_EXPECTED}")
    if set(part) != {"type", kind}:
        raise RequestError(f"{name} has the fields {sorted(map(str, part))}; expected type and {kind}, and no other")
    return {"type": kind, kind: _KINDS[kind](part[kind], name)}


def _checked_url(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or "url" not in value or not set(value) <= {"url", "detail"}:
        raise RequestError(f'{name}: image_url is {shown(value)}; expected {{"url": "..."}}')
    fields = {str(key): checked_text(text, f"{key} in {name}") for key, text in value.items()}
    if not fields["url"]:
        raise RequestError(f"{name}: url is empty; expected an https, data or file URL")
    return fields


def _checked_image(value: Any, name: str) -> Any:
    """PIL itself is not imported: its images are known by what vLLM asks of them."""
    if not hasattr(value, "convert") or not hasattr(value, "size"):
        raise RequestError(f"{name}: image_pil is {shown(value)}; expected a PIL image")
    return value


_KINDS: dict[str, Callable[[Any, str], Any]] = {
    "text": checked_text,
    "image_url": _checked_url,
    "image_pil": _checked_image,
}
