"""Questions with images on their way to an engine: vLLM itself fetches, decodes and checks each image, and says where
its tokens stand. Nothing here opens an address or a file.

A prompt is put through vLLM's image processor twice. Once to plan it: how long it is, where it is read. That may end in
a refusal, so it leaves alone the cache that vLLM keeps in step with the engine's (the engine would miss what was noted
there and never sent). And once as it is sent, which can no longer be refused. Each keeps what it made of an image, so a
picture is processed twice, not twice per solution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.compat import chat_utils
from vllm_prm.errors import RequestError
from vllm_prm.prompts import Prompt, Scoring, SeenQuestion
from vllm_prm.prompts.pictures import expanded_positions
from vllm_prm.questions import Question
from vllm_prm.recipes.prompt import CHAT_KINDS

if TYPE_CHECKING:
    from vllm_prm.recipes import BoundRecipe

_SHOWN = 500  # characters of vLLM's own message: it may repeat a data URL of megabytes


@dataclass(frozen=True)
class Pictures:
    """Of one engine. renderer: vLLM's. recipe: gives the bound recipe, which may take a moment."""

    renderer: Any
    recipe: Callable[[], BoundRecipe]

    @property
    def _model_config(self) -> Any:
        return self.renderer.model_config

    def check(self) -> None:
        """Raise RequestError if questions with images cannot be scored here, whatever the image."""
        kind = self.recipe().prompt_format.kind
        if self._model_config.runner_type == "generate":
            fault = (
                "this engine generates text, and reads steps one by one; images need a pooling engine (--task embed)"
            )
        elif not self._model_config.is_multimodal_model:
            fault = f"{self._model_config.model} takes text only"
        elif kind in ("passes", "judge", "dialogue"):
            fault = f"recipe {self.recipe().recipe.name!r} asks the model about each step (kind {kind!r}), in text only"
        else:
            return
        raise RequestError(f"the question holds images, but {fault}. Send its text, or serve a model that sees")

    def see(self, question: Question) -> SeenQuestion:
        """The question with its images fetched. Raises RequestError if vLLM does not take one."""
        messages = self._messages(question)
        try:
            return _seen(*chat_utils().parse_chat_messages(*messages))
        except Exception as error:  # noqa: BLE001 - fetching and decoding raise whatever their libraries do
            raise _refusal(error) from error

    async def see_soon(self, question: Question) -> SeenQuestion:
        """`see`, while the event loop goes on."""
        messages = self._messages(question)
        try:
            return _seen(*await chat_utils().parse_chat_messages_async(*messages))
        except Exception as error:  # noqa: BLE001 - as in `see`
            raise _refusal(error) from error

    def _messages(self, question: Question) -> tuple[list[dict[str, Any]], Any, str]:
        """Arguments of parse_chat_messages: the question as a conversation, and how a template wants its content."""
        self.check()
        return [{"role": "user", "content": question}], self._model_config, self._content_format()

    def _content_format(self) -> str:
        """ "openai" for a chat template that writes the images' placeholders, "string" where vLLM is to write them."""
        if self.recipe().prompt_format.kind not in CHAT_KINDS:
            return "string"
        from vllm.renderers.hf import resolve_chat_template_content_format

        tokenizer = self.recipe().tokenizer
        found: str = resolve_chat_template_content_format(
            chat_template=getattr(tokenizer, "chat_template", None),
            tools=None,
            given_format="auto",
            tokenizer=tokenizer,
            model_config=self._model_config,
        )
        return found

    def expand(self, scoring: Scoring, longest: int) -> None:
        """Give the scoring's prompts their images. Raises RequestError if vLLM does not take them, or the prompt is
        longer than `longest` with them."""
        prompts = []
        for prompt in scoring.prompts:
            media = _media(prompt, scoring)
            try:
                whole = self.renderer.process_for_engine(dict(media), time.time(), skip_mm_cache=True)
            except Exception as error:  # noqa: BLE001 - processors of images raise whatever their authors chose
                raise _refusal(error) from error
            prompts.append(_expanded(prompt, media, whole, longest))
        scoring.expand(prompts)

    async def expand_soon(self, scoring: Scoring, longest: int) -> None:
        """`expand`, while the event loop goes on."""
        prompts = []
        for prompt in scoring.prompts:
            media = _media(prompt, scoring)
            try:
                whole = await self.renderer.process_for_engine_async(dict(media), time.time(), skip_mm_cache=True)
            except Exception as error:  # noqa: BLE001 - as in `expand`
                raise _refusal(error) from error
            prompts.append(_expanded(prompt, media, whole, longest))
        scoring.expand(prompts)


def _seen(conversation: list[Any], media: Any, uuids: Any) -> SeenQuestion:
    return SeenQuestion(conversation[0]["content"], {"multi_modal_data": media, "multi_modal_uuids": uuids})


def _media(prompt: Prompt, scoring: Scoring) -> Mapping[str, Any]:
    """A prompt of vLLM's: tokens with placeholders, and the images."""
    assert scoring.media is not None
    return {"prompt_token_ids": list(prompt.token_ids), **scoring.media}


def _expanded(prompt: Prompt, media: Mapping[str, Any], whole: Mapping[str, Any], longest: int) -> Prompt:
    """whole: what vLLM would send to the engine."""
    token_ids = list(whole["prompt_token_ids"])
    spans = [(span.offset, span.offset + span.length) for spans in whole["mm_placeholders"].values() for span in spans]
    if len(token_ids) > longest:
        raise RequestError(
            f"the prompt has {len(token_ids)} tokens, {sum(end - start for start, end in spans)} of them for its "
            f"{len(spans)} images, and the model takes {longest}; send smaller or fewer images, fewer steps, or serve "
            "with a larger --max-model-len"
        )
    positions = expanded_positions(prompt.token_ids, prompt.positions, token_ids, spans)
    if positions is None:
        raise RequestError(
            "the prompt's tokens are others once vLLM has put the images' own in, so the steps cannot be found among "
            "them. Does the question or a step hold the text that stands for an image? Please report it, with the "
            "model's name, if not"
        )
    return Prompt(tuple(token_ids), tuple(positions), media)


def _refusal(error: Exception) -> RequestError:
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    texts = [str(one)[:_SHOWN] or type(one).__name__ for one in dict.fromkeys((error, first))]  # what, and why
    return RequestError(f"vLLM does not take an image of the question: {': '.join(texts)}")
