"""A page opened in headless Chromium, clicked and read by its DevTools protocol (chromedevtools.github.io).

Knows no page of ours. Needs Chromium (browser.py) and websockets, which uvicorn[standard] brings.
"""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from browser import browser
from websockets.sync.client import ClientConnection, connect

WAIT_S = 60.0  # for anything on a page; test machines are not idle
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--remote-debugging-port=0"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--window-size=1200,1400"]


class Page:
    """complaints: what the page did wrong. An answer that is no 200 is none: what comes of it stands in the page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url="about:blank")  # else a change of the address' hash alone loads nothing
        self._call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def get(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise's, once it is there."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits for an expression to be true."""
        deadline = time.monotonic() + WAIT_S
        while not self.get(expression):
            assert time.monotonic() < deadline, f"{expression} is still false; the page says: {self.text()[:2000]}"
            time.sleep(0.05)

    def text(self) -> str:
        """All of it, hidden or not: what is outside of the window has no innerText where a style says so."""
        parts = "Array.from(document.body.children).filter((one) => one.tagName !== 'SCRIPT')"
        return self.get(f"{parts}.map((one) => one.textContent).join('\\n')")

    def write(self, selector: str, text: str) -> None:
        self.get(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    def click(self, selector: str) -> None:
        self.get(f"document.querySelector({json.dumps(selector)}).click()")

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(self._socket.recv(timeout=WAIT_S))).get("id") != number:
            self._note(message)
        assert "error" not in message, message
        return message["result"]

    def _note(self, event: dict[str, Any]) -> None:
        params = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        entry = params.get("entry", {})
        if entry.get("level") in ("warning", "error") and entry["source"] != "network":
            self.complaints.append(entry["text"])


@contextmanager
def opened(folder: Path) -> Iterator[Page]:
    """A browser with an empty page; its profile lies in `folder`."""
    name = browser()
    assert name is not None
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([name, *FLAGS, f"--user-data-dir={folder}"], stdout=log, stderr=log)
        try:
            port = _port(folder / "DevToolsActivePort")
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with connect(address, max_size=1 << 26) as socket:  # bytes; pictures are large
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(30)


def _port(file: Path) -> str:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if file.exists() and (lines := file.read_text().splitlines()):
            return lines[0]
        time.sleep(0.05)
    raise TimeoutError("the browser did not start")
