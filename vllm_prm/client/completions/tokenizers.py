"""The model's tokenizer on the client's side, and whether the server has the same one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from vllm_prm.client.completions.remote import ServerTokenizer, has_tokenizer
from vllm_prm.client.transport import Refusal, Transport
from vllm_prm.errors import EngineError, RecipeError
from vllm_prm.recipes.binding import BoundRecipe
from vllm_prm.wire.completions import ModelCard, TokenizeRequest, TokenizeResponse

logger = logging.getLogger(__name__)
_OTHERWISE = "give tokenizer= the folder or name of the model that the server runs"


async def tokenizer_for(tokenizer: Any, card: ModelCard, transport: Transport) -> Any:
    """The tokenizer itself; of a name or folder; or, for None, of the folder or name that the server's model has, or
    else the server's own, asked over HTTP.

    Raises RecipeError if there is none to be had.
    """
    if tokenizer is not None and not isinstance(tokenizer, str | Path):
        return tokenizer
    source = str(tokenizer) if tokenizer is not None else card.root or card.id
    try:
        return await asyncio.to_thread(read_tokenizer, source, _OTHERWISE)
    except RecipeError:
        if tokenizer is not None or not await has_tokenizer(transport, card.id):
            raise
        logger.info("%s tokenizes for the client, which has no tokenizer of %s", transport.url, card.root or card.id)
        return ServerTokenizer(transport, card.id)


def read_tokenizer(source: str, otherwise: str) -> Any:
    """The tokenizer in a folder, or of a name, as transformers reads it. otherwise: what to do if there is none.

    Raises RecipeError without transformers, or if there is no tokenizer to be had.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise RecipeError(
            "the model's tokenizer is needed on this side, to make token ids of texts: pip install "
            "'vllm-prm[tokenizer]'; PRMClient's tokenizer= also takes an object with encode(), decode() and get_vocab()"
        ) from error
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise RecipeError(f"no tokenizer could be read from {source!r} ({str(error)[:200]}); {otherwise}") from error


async def check_same(transport: Transport, model: str, recipe: BoundRecipe) -> None:
    """Raise EngineError if the server tokenizes a text otherwise; a server without /tokenize is taken at its word."""
    if isinstance(recipe.tokenizer, ServerTokenizer):
        return
    text = " ".join(["1 + 1 = 2, Größe 5 °C", recipe.tag.strip(), *recipe.scoring_texts])
    request = TokenizeRequest(model=model, prompt=text, add_special_tokens=False)
    try:
        response = await transport.ask_or_refusal("POST", "/tokenize", TokenizeResponse, request)
    except EngineError:
        response = None
    if response is None or isinstance(response, Refusal):
        logger.info("%s has no /tokenize: its tokenizer was not compared with the client's", transport.url)
        return
    token_ids = list(recipe.tokenizer.encode(text, add_special_tokens=False))
    if response.tokens != token_ids:
        raise EngineError(
            f"{transport.url} tokenizes {text!r} as {response.tokens}, and the tokenizer on this side as {token_ids}; "
            "give tokenizer= the folder of the model that the server runs"
        )
