"""A server's tokenizer, asked over HTTP (vLLM's `/tokenize` and `/detokenize`), for a client that has none of its own.

It has the methods of a tokenizer of transformers that recipes and prompts need. A request for each text is slower than
a tokenizer on this side, and exact: the ids are the server's own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from cachetools import LRUCache, cachedmethod

from vllm_prm.client.transport import Refusal, Transport
from vllm_prm.errors import EngineError, RecipeError
from vllm_prm.recipes.pieces import piece_text
from vllm_prm.wire.completions import DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse

_TEXTS = 1024  # remembered: the beginnings that a search's prompts share are looked up again and again

_T = TypeVar("_T")


async def has_tokenizer(transport: Transport, model: str) -> bool:
    """Whether the server tokenizes texts, and says how its vocabulary spells the tokens."""
    request = TokenizeRequest(model=model, prompt="1 + 1", add_special_tokens=False, return_token_strs=True)
    try:
        response = await transport.ask_or_refusal("POST", "/tokenize", TokenizeResponse, request)
    except EngineError:
        return False
    return not isinstance(response, Refusal) and bool(response.token_strs)


class ServerTokenizer:
    """Of one model of a server. Made in the transport's event loop, and called in other threads only.

    Every method raises EngineError if the server does not answer.
    """

    def __init__(self, transport: Transport, model: str) -> None:
        self._transport, self._model = transport, model
        self._loop, self._loops_thread = asyncio.get_running_loop(), threading.get_ident()
        self._texts: LRUCache[Any, list[int]] = LRUCache(_TEXTS)
        self._lock = threading.Lock()
        self._pieces: dict[int, str] = {}  # those that were seen, as the vocabulary spells them
        self._bos: tuple[int | None] | None = None

    @property
    def bos_token_id(self) -> int | None:
        """What stands before every text, if the tokenizer puts something there."""
        if self._bos is None:
            bare = self.encode("1", add_special_tokens=False)
            whole = self.encode("1")
            self._bos = (whole[0] if whole != bare and whole[1 : 1 + len(bare)] == bare else None,)
        return self._bos[0]

    @cachedmethod(lambda self: self._texts, lock=lambda self: self._lock)
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self._tokens(TokenizeRequest(prompt=text, **self._common(add_special_tokens)))

    def decode(self, token_ids: Sequence[int]) -> str:
        request = DetokenizeRequest(model=self._model, tokens=list(token_ids))
        return self._wait(self._transport.ask("POST", "/detokenize", DetokenizeResponse, request)).prompt

    def convert_ids_to_tokens(self, token_ids: int | list[int]) -> Any:
        if isinstance(token_ids, int):
            return self._pieces.get(token_ids) or self.decode([token_ids])
        return [self.convert_ids_to_tokens(token_id) for token_id in token_ids]

    def get_vocab(self) -> _Vocabulary:
        return _Vocabulary(self)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        **template: Any,
    ) -> str:
        """The conversation as text; `template` are the template's own arguments.

        Raises RecipeError if the server's text of it has other tokens.
        """
        assert not tokenize
        request = TokenizeRequest(
            messages=list(map(dict, messages)),
            add_generation_prompt=add_generation_prompt,
            chat_template_kwargs=template or None,
            **self._common(False),
        )
        token_ids = self._tokens(request)
        text = self.decode(token_ids)
        if self.encode(text, add_special_tokens=False) != token_ids:
            raise RecipeError(
                f"{self._transport.url} writes a chat whose text {text[:80]!r} has other tokens than the chat; give "
                "tokenizer= the folder or name of the model that the server runs"
            )
        return text

    def id_of(self, piece: str) -> int | None:
        """The id of a piece of the vocabulary, found in what the server makes of its text; None if it is not there."""
        text = piece_text(piece)
        # Sentencepiece puts a space before a text, and a piece without one is found after another character only.
        for around in (text, f"1{text}", text.strip()):
            if around:
                self.encode(around, add_special_tokens=False)
        return next((token_id for token_id, spelled in self._pieces.items() if spelled == piece), None)

    def _common(self, add_special_tokens: bool) -> dict[str, Any]:
        return {"model": self._model, "add_special_tokens": add_special_tokens, "return_token_strs": True}

    def _tokens(self, request: TokenizeRequest) -> list[int]:
        response = self._wait(self._transport.ask("POST", "/tokenize", TokenizeResponse, request))
        self._pieces.update(zip(response.tokens, response.token_strs or (), strict=False))
        return response.tokens

    def _wait(self, answer: Coroutine[Any, Any, _T]) -> _T:
        assert threading.get_ident() != self._loops_thread, "the event loop would wait for itself"
        return asyncio.run_coroutine_threadsafe(answer, self._loop).result()


class _Vocabulary:
    """Pieces that are looked up one by one, because servers do not give their vocabulary."""

    def __init__(self, tokenizer: ServerTokenizer) -> None:
        self._tokenizer = tokenizer

    def get(self, piece: str) -> int | None:
        return self._tokenizer.id_of(piece)

    def __iter__(self) -> Iterator[str]:
        raise EngineError(
            "this server names tokens by their text, and does not give its vocabulary, so nobody can tell whether two "
            "have the same; give tokenizer= the folder or name of the model that the server runs"
        )
