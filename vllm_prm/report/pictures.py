"""The images of a question on a report's page, which loads nothing: those that its data URLs hold are shown, others
are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from vllm_prm.questions import Question, image_urls

# What all browsers show as pixels. An SVG is not among them: it is a document.
_SHOWN = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")


def is_shown(url: str | None) -> bool:
    return url is not None and _SHOWN.fullmatch(url) is not None


def shows_images(questions: Iterable[Question]) -> bool:
    """Whether the page of these questions needs leave to show what its data URLs hold."""
    return any(is_shown(url) for question in questions for url in image_urls(question))


def pictures(question: Question) -> str:
    """HTML of the question's images; "" if it has none."""
    entries = [_entry(number, url) for number, url in enumerate(image_urls(question), 1)]
    return f'<p class="pictures">{" ".join(entries)}</p>' if entries else ""


def _entry(number: int, url: str | None) -> str:
    if url is not None and is_shown(url):
        return f'<img alt="image {number}" src="{escape(url)}">'
    if url is None or url[:5].lower() == "data:":
        return f"<span>image {number}</span>"
    return f"<span>image {number}: {escape(url)}</span>"
