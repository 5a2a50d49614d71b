"""A question with images, once an engine has looked at it: what stands in its prompt, and the images themselves.

An engine writes a placeholder where an image stands, and puts the image's own tokens in its place later. Prompts are
made, and their tags found, with the placeholders in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A turn of a chat: text; or parts {"type": "text", "text": ...} and {"type": "image"}, for templates that write the
# placeholders themselves.
Content = str | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class SeenQuestion:
    """content: the question as a chat template takes it. media: its images, which only the engine can read, if any."""

    content: Content
    media: Mapping[str, Any] | None


def texts_in(content: Content) -> list[str]:
    """Its texts, in order."""
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def between(before: str, content: Content, after: str) -> Content:
    """The content with text before and after it, which becomes one with the text that it stands beside."""
    if isinstance(content, str):
        return before + content + after
    parts = [_text(before), *content, _text(after)]
    joined: list[Mapping[str, str]] = []
    for part in parts:
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            joined[-1] = _text(joined[-1]["text"] + part["text"])
        else:
            joined.append(part)
    return [part for part in joined if part["type"] != "text" or part["text"]]


def stripped_content(content: Content) -> Content:
    """Without the white space at both ends of its text."""
    if isinstance(content, str):
        return content.strip()
    parts = list(content)
    for index, strip in ((0, str.lstrip), (-1, str.rstrip)):
        if parts[index]["type"] == "text":
            parts[index] = _text(strip(parts[index]["text"]))
    return parts


def _text(text: str) -> Mapping[str, str]:
    return {"type": "text", "text": text}


def expanded_positions(
    token_ids: Sequence[int], positions: Sequence[int], whole: Sequence[int], images: Sequence[tuple[int, int]]
) -> list[int] | None:
    """Where the positions of a prompt with placeholders stand once the images have their own tokens; None if unclear.

    token_ids, positions: with the placeholders. whole: with the images' tokens. images: start and end of each in it.

    Positions count from the end. That holds if all that follows the last image is the same in both, but for one token
    that touches it (a placeholder of text may have merged with what stands beside it), and so before the first image.
    """
    first, last = min(start for start, _ in images), max(end for _, end in images)
    same_after = _alike(reversed(token_ids), reversed(whole))
    same_before = _alike(token_ids, whole)
    moved = [position + len(whole) - len(token_ids) for position in positions]
    is_clear = (
        same_after >= len(whole) - last - 1
        and same_before >= min(first, max(1, first - 1))  # the very first token too, which begins the sequence
        and same_after >= len(token_ids) - positions[0]
        and moved[0] >= last
    )
    return moved if is_clear else None


def _alike(some: Iterable[int], others: Iterable[int]) -> int:
    """How many of the first tokens are the same."""
    count = 0
    for one, other in zip(some, others, strict=False):
        if one != other:
            break
        count += 1
    return count
