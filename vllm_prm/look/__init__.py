"""How our pages look, and what they may do: the skeleton of a page, with the style that all of them share.

A page is one file and loads nothing. Its content security policy lets no script run but its own, and lets that talk
to no one but, if the page says so, the server that it came from. Images it shows only where they are in the page.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources


def document(title: str, body: str, style: str, script: str, *, connects: bool = False, pictures: bool = False) -> str:
    """A whole page as HTML.

    body: HTML, escaped where it has to be. style: CSS of this page alone. script: JavaScript, run when all of the body
    is there. connects: whether the script may ask the server that the page came from. pictures: whether the body shows
    images that its own data URLs hold.
    """
    shared = resources.files(__package__).joinpath("look.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    if connects:
        policy += "; connect-src 'self'"
    if pictures:
        policy += "; img-src data:"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{shared}{style}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""
