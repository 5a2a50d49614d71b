"""A server of /v1/completions that is not ours: what it can and what it lies about are its settings.

Its model is a table: the logits after a prompt follow from the prompt's tokens alone, so every test knows them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

MODEL = "someone/their-model"


def logprobs_after(token_ids: list[int], size: int) -> np.ndarray:
    """float64 [size]: the log-probabilities of the next token."""
    seed = int.from_bytes(hashlib.sha256(str(list(token_ids)).encode()).digest()[:8], "little")
    logits = np.random.default_rng(seed).normal(0, 2, size)
    return logits - np.log(np.exp(logits).sum())


@dataclass
class CompletionsServer:
    """size: of the vocabulary. most: likeliest tokens that it gives. keeps_spaces: in the names of tokens.

    lie: what it does wrong: "no models", "shortens", "other model", "fewer", "no logprobs", "other tokens by id".
    """

    tokenizer: Any
    size: int
    takes_ids: bool = True
    takes_many: bool = True
    by_id: bool = True
    names_ids: bool = True
    keeps_spaces: bool = True
    most: int = 20
    speculates: bool = False
    tokenizes: bool = True
    shifts: int = 0  # of the ids that /tokenize gives: another tokenizer
    lie: str = ""
    asked: Counter = field(default_factory=Counter)
    prompts: list[list[int]] = field(default_factory=list)

    @property
    def app(self) -> FastAPI:
        app = FastAPI()
        app.get("/v1/models")(self.models)
        app.get("/metrics")(self.metrics)
        app.post("/v1/completions")(self.completions)
        if self.tokenizes:
            app.post("/tokenize")(self.tokenize)
            app.post("/detokenize")(self.detokenize)
        return app

    async def models(self):
        if self.lie == "no models":
            return {"data": []}
        return {"data": [{"id": MODEL, "root": "/nowhere/at/all", "max_model_len": 512}]}

    async def metrics(self):
        return PlainTextResponse("vllm:spec_decode_num_drafts_total 0\n" if self.speculates else "")

    async def tokenize(self, request: Request):
        body = await request.json()
        special = body.get("add_special_tokens", True)
        if body.get("messages"):
            more = {"tokenize": False, "add_generation_prompt": body.get("add_generation_prompt", True)}
            more |= body.get("chat_template_kwargs") or {}
            text, special = self.tokenizer.apply_chat_template(body["messages"], **more), False
        else:
            text = body["prompt"]
        ids = [token_id + self.shifts for token_id in self.tokenizer.encode(text, add_special_tokens=special)]
        self.asked["tokenize"] += 1
        return {"count": len(ids), "tokens": ids, "token_strs": self.tokenizer.convert_ids_to_tokens(ids)}

    async def detokenize(self, request: Request):
        return {"prompt": self.tokenizer.decode((await request.json())["tokens"])}

    async def completions(self, request: Request):
        body = await request.json()
        if (refusal := self._refusal(body)) is not None:
            self.asked["refused"] += 1
            return JSONResponse({"error": {"message": refusal, "type": "invalid_request_error"}}, 400)
        self.asked["completions"] += 1
        self.asked["by id"] += "logprob_token_ids" in body
        prompts = [p if isinstance(p, list) else self.tokenizer.encode(p) for p in body["prompt"]]
        self.prompts += prompts
        choices = [{"index": i, "text": "", "logprobs": self._logprobs(p, body)} for i, p in enumerate(prompts)]
        if self.lie == "fewer" and len(self.prompts) > 2:
            choices.pop()
        # The prompts of the first request are short: a server shortens others.
        count = sum(min(len(prompt), 25) if self.lie == "shortens" else len(prompt) for prompt in prompts)
        model = "another" if self.lie == "other model" else body["model"]
        return {"model": model, "choices": choices, "usage": {"prompt_tokens": count}}

    def _refusal(self, body):
        are_ids = isinstance(body["prompt"][0], list)
        if are_ids and not self.takes_ids:
            return "prompt: expected a text"
        if len(body["prompt"]) > 1 and not self.takes_many:
            return "prompt: expected one"
        if "logprob_token_ids" in body and not self.by_id:
            return "logprob_token_ids: unknown field"
        if "logprob_token_ids" not in body and body["logprobs"] > self.most:
            return f"logprobs: at most {self.most}"
        return None

    def _logprobs(self, token_ids, body):
        if self.lie == "no logprobs":
            return None
        logprobs = logprobs_after(token_ids, self.size)
        ids = body.get("logprob_token_ids") or np.argsort(-logprobs)[: body["logprobs"]].tolist()
        if self.lie == "other tokens by id" and len(self.prompts) > 2:
            ids = [token_id + 1 for token_id in ids]
        names_ids = self.names_ids and body.get("return_tokens_as_token_ids")
        names = [f"token_id:{token_id}" if names_ids else self._name(token_id) for token_id in ids]
        return {"top_logprobs": [dict(zip(names, logprobs[ids].tolist(), strict=True))]}

    def _name(self, token_id):
        piece = self.tokenizer.convert_ids_to_tokens(token_id) or f"<unused {token_id}>"
        if piece.startswith("<0x"):
            return bytes([int(piece[3:5], 16)]).decode(errors="replace")
        text = piece.replace("▁", " ")
        return text if self.keeps_spaces else text.removeprefix(" ")
