"""The images that a benchmark's files name: where they lie, and their content once it is needed.

A row's `image` or `images` is one or several paths or addresses, and a question may be a list of content parts
(`vllm_prm.questions`). A path is one below the folder of the row's file, or below the one that the user names: a file
from elsewhere must not make this machine send others of its files away. Addresses (https:, data:, file:) are left to
whoever scores.

A question keeps the path, so that a benchmark of gigabytes is read picture by picture and its scores' file stays small;
`with_content` puts the picture in its place. A path is known by having no scheme.
"""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.inputs import shown
from vllm_prm.questions import Question, checked_question, image_urls

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")  # RFC 3986, section 3.1
# How files begin: PNG, section 5.2; JPEG's SOI and marker; GIF89a, section 17; WebP's RIFF container; BMP's header.
_KINDS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"\xff\xd8\xff"), "jpeg"),
    (re.compile(rb"GIF8[79]a"), "gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
    (re.compile(rb"BM"), "bmp"),
)


def question_with_images(value: Any, images: Any, folder: Path, name: str) -> Question:
    """The question of a row. Paths become absolute ones.

    value: a text, or content parts. images: a path, an address or a list of them, which stand before the text. name:
    what messages call the question.

    Raises RequestError for what is none of that, and for a path that leads out of the folder.
    """
    urls = [] if images is None else images if isinstance(images, list) else [images]
    if wrong := [url for url in urls if not isinstance(url, str) or not url]:
        raise RequestError(f"an image is {shown(wrong[0])}; expected a path or an address, or a list of them")
    named = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    if named:
        value = [*named, *([{"type": "text", "text": value}] if isinstance(value, str) else value)]
    question = checked_question(value, name)
    if isinstance(question, str):
        return question
    return [_changed(part, lambda url: url if _SCHEME.match(url) else str(_inside(url, folder))) for part in question]


def names_files(question: Question) -> bool:
    return any(url is not None and not _SCHEME.match(url) for url in image_urls(question))


def with_content(question: Question) -> Question:
    """The question with its files as data URLs. Raises RequestError for a file that cannot be read or is no image."""
    if isinstance(question, str):
        return question
    return [_changed(part, lambda url: url if _SCHEME.match(url) else _data_url(Path(url))) for part in question]


def _changed(part: dict[str, Any], change: Any) -> dict[str, Any]:
    """The part with another address of its image."""
    if part["type"] != "image_url":
        return part
    return {**part, "image_url": {**part["image_url"], "url": change(part["image_url"]["url"])}}


def _inside(path: str, folder: Path) -> Path:
    resolved = (folder / path).resolve()
    if not resolved.is_relative_to(folder.resolve()):
        raise RequestError(
            f"the image {path!r} lies outside of {folder}; name the folder that holds the images (--images FOLDER)"
        )
    return resolved


def _data_url(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the image {path}: {error.strerror or error}") from error
    kind = next((kind for begin, kind in _KINDS if begin.match(content)), None)
    if kind is None:
        raise RequestError(f"{path} is no image; expected PNG, JPEG, GIF, WebP or BMP")
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
