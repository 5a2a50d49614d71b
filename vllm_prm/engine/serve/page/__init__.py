"""The page `/prm`: a question and solutions to try the served model on, in a browser.

One file of HTML, style and script that asks this server's own routes; texts of users are only ever set as text. Images
of a question are shown if they are files of the user's; an address goes to the server, and the page does not open it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from vllm_prm.look import document


@cache
def page() -> str:
    """The page as HTML, the same for every model."""
    body, style, script = (
        resources.files(__package__).joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    return document("Process reward model", body, style, script, connects=True, pictures=True)
