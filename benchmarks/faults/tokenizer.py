"""A tokenizer that raises: the tiny PRM with a tokenizer class of its own (`--trust-remote-code`).

The class is transformers' real one; it raises on texts that hold WORD, wherever transformers or vLLM hand it one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from serve import Server

from faults.asks import one
from faults.known import MODEL, Broken, Known, difference

WORD = "tokenizer-trouble"
CLASS = f'''"""Raises on a word."""

from transformers import PreTrainedTokenizerFast


class RaisingTokenizer(PreTrainedTokenizerFast):
    def _encode_plus(self, text, *args, **kwargs):
        if {WORD!r} in str(text):
            raise RuntimeError("this tokenizer does not like that text")
        return super()._encode_plus(text, *args, **kwargs)
'''


def checkpoint(folder: Path) -> Path:
    """A copy of the tiny PRM with that tokenizer."""
    shutil.copytree(MODEL, folder)
    (folder / "raising.py").write_text(CLASS, "utf-8")
    path = folder / "tokenizer_config.json"
    fields = json.loads(path.read_text("utf-8"))
    fields |= {"tokenizer_class": "RaisingTokenizer", "auto_map": {"AutoTokenizer": [None, "raising.RaisingTokenizer"]}}
    path.write_text(json.dumps(fields), "utf-8")
    return folder


def raises(server: Server, trees: Sequence[Sequence[Known]]) -> dict[str, Any]:
    """Ask for texts that it raises on, alone and among others. Raises Broken if anything else is lost."""
    bad, good = {"question": WORD, "steps": ["1 + 1 = 2"]}, one(trees[0][0])
    figures: dict[str, Any] = {}
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for path, body in (
            ("/v1/prm/score", bad),
            ("/v1/prm/prompts", bad),
            ("/get_reward", {"query": [WORD]}),
            ("/remote_rm", {"prompt": WORD, "response": "1 + 1 = 2"}),
            ("/worker_value_inference", {"input_str": [WORD]}),
        ):
            begun = time.monotonic()
            answer = http.post(path, json=body)
            figures[path] = f"{answer.status_code} in {time.monotonic() - begun:.2f} s: {answer.text[:200]}"
            if answer.status_code != 500 or "does not like" not in answer.json()["error"]["message"]:
                raise Broken(f"{path} answered {figures[path]} over a tokenizer that raised")
        entries = http.post("/v1/prm/score", json={"inputs": [good.body, bad, good.body]}).json()["data"]
        if [entry["object"] for entry in entries] != ["prm.score", "error", "prm.score"]:
            raise Broken(f"other solutions of the request are lost: {entries}")
        away = difference([entries[0]["step_scores"], entries[2]["step_scores"]], [*good.expected, *good.expected])
        again = http.post(good.path, json=good.body)
        return {**figures, "largest difference": max(away, good.check(again.status_code, again.json()))}
