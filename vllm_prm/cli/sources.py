"""Where scores come from: an engine in this process (--model), or a server that runs (--server).

Knows what the options mean, not the lines that are scored. The invariant: a source that was only made has asked no
server and started no engine; the server is asked for its recipe and its model's name when those are first needed, and
an engine starts in `open`.
"""

from __future__ import annotations

import argparse
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import httpx

from vllm_prm.cli.answers import Score
from vllm_prm.cli.patience import Patient
from vllm_prm.cli.progress import say
from vllm_prm.client import PRMClient
from vllm_prm.client.transport import certificates, checked_url
from vllm_prm.errors import EngineError, RequestError
from vllm_prm.recipes import Recipe, load_recipe, recipe_for

ENGINE_BATCH = 512  # twice vLLM's usual max_num_seqs of 256: the engine stays full, and 512 solutions are soon done
SERVER_BATCH = 128  # a server batches over all its clients; smaller ones lose less when it goes away
_ASK_S = 60.0  # for a server's name and health: answered at once, unless the machine is starved


class Source(ABC):
    """One scorer. batch_size: solutions to score at a time."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    @property
    @abstractmethod
    def name(self) -> str:
        """The model's name, for "scored_by". Raises EngineError if the server does not tell it."""

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """The recipe that the model is scored by. Raises RecipeError, or EngineError if the server does not tell."""

    @property
    def made_by(self) -> dict[str, str]:
        """The beginning of "scored_by"."""
        return {"model": self.name, "recipe": self.recipe.name}

    @abstractmethod
    def open(self) -> AbstractContextManager[Score]:
        """The function that scores, for as long as the context lasts."""


class ModelSource(Source):
    """An engine of our own. engine_words: vLLM's options, as they were typed after --."""

    def __init__(self, model: str, spec: str | None, engine_words: Sequence[str], batch_size: int | None) -> None:
        super().__init__(batch_size or ENGINE_BATCH)
        self._model = model
        self._spec = spec
        self._engine_words = engine_words

    @property
    def name(self) -> str:
        return Path(self._model).resolve().name if Path(self._model).is_dir() else self._model

    @cached_property
    def recipe(self) -> Recipe:
        return recipe_for(self._model, self._spec, "--recipe RECIPE")

    @contextmanager
    def open(self) -> Iterator[Score]:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # a progress bar and hundreds of log lines do not mix
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout may be carrying the answers
        say(f"starting an engine for {self._model} (recipe {self.recipe.name})")
        from vllm_prm.engine.serve.offline import PRM  # vLLM and torch: not before they are needed
        from vllm_prm.engine.start.arguments import engine_arguments

        with PRM(self._model, self.recipe, **engine_arguments(self._engine_words)) as prm:
            yield partial(prm.score_batch, on_error="return", progress=False)


class ServerSource(Source):
    """A server that runs.

    served_model: which of its models; None: its first. solutions_per_request, keep_questions_apart,
    recipe, tokenizer: see `PRMClient`.
    patience_s: see `Patient`.
    """

    def __init__(
        self,
        url: str,
        served_model: str | None,
        api_key: str | None,
        *,
        batch_size: int | None,
        solutions_per_request: int,
        keep_questions_apart: bool,
        patience_s: float,
        recipe: str | None,
        tokenizer: str | None,
    ) -> None:
        """Raises RequestError if `url` is no address."""
        super().__init__(batch_size or SERVER_BATCH)
        self._url = checked_url(url)
        self._served_model = served_model
        self._api_key = api_key
        self._solutions_per_request = solutions_per_request
        self._keep_questions_apart = keep_questions_apart
        self._patience_s = patience_s
        self._spec, self._tokenizer = recipe, tokenizer

    @cached_property
    def name(self) -> str:
        return self._served_model or _first_model(self._url, self._api_key)

    @cached_property
    def recipe(self) -> Recipe:
        return self._client.recipe

    @contextmanager
    def open(self) -> Iterator[Score]:
        with self._client as client:
            yield Patient(partial(client.score_batch, on_error="return", progress=False), self._patience_s)

    @cached_property
    def _client(self) -> PRMClient:
        return PRMClient(
            self._url,
            self._served_model,
            self._api_key,
            solutions_per_request=self._solutions_per_request,
            keep_questions_apart=self._keep_questions_apart,
            recipe=self._spec,
            tokenizer=self._tokenizer,
        )


def chosen_source(args: argparse.Namespace) -> Source:
    """The source that the options name (see `options.add_source`). Raises RequestError if they do not name one."""
    if (args.model is None) == (args.server is None):
        number = "neither" if args.model is None else "both"
        raise RequestError(
            f"{number} of --model and --server given; expected --model M (an engine in this process) "
            "or --server URL (one that runs)"
        )
    spec = args.recipe if args.rubric is None else _with_rubric(args)
    if args.server is None:
        return ModelSource(args.model, spec, args.engine_words, args.batch_size)
    if args.engine_words:
        raise RequestError("engine options after -- cannot be used with --server: the server was started with its own")
    if args.tokenizer is not None and args.recipe is None:
        raise RequestError(
            "--tokenizer is for a server without our plugin, which needs --recipe as well; a server with it tokenizes"
        )
    return ServerSource(
        args.server,
        args.served_model,
        args.api_key,
        batch_size=args.batch_size,
        solutions_per_request=args.solutions_per_request,
        keep_questions_apart=args.keep_questions_apart,
        patience_s=args.patience,
        recipe=spec,
        tokenizer=args.tokenizer,
    )


def _with_rubric(args: argparse.Namespace) -> str:
    """The judge, or the recipe that is named, with another rubric; as JSON, with a name of its own for "scored_by".

    Raises RecipeError if it is none that has a rubric, RequestError if the server's recipe is not ours to change.
    """
    if args.server is not None and args.recipe is None:
        raise RequestError(
            "--rubric changes a recipe, and the server has its own; write a recipe (vllm-prm recipes --new mine.json "
            "--kind judge --rubric ...) and serve with --prm mine.json"
        )
    fields = load_recipe(args.recipe or "judge").to_dict()
    fields["prompt"] = {**(fields["prompt"] or {}), "rubric": args.rubric}
    fields["name"] += f", rubric {blake2b(args.rubric.encode(), digest_size=4).hexdigest()}"  # resumed runs compare it
    return load_recipe(fields).to_json()


def http_client(url: str, api_key: str | None) -> httpx.Client:
    """For small questions to a server. api_key: None takes VLLM_API_KEY from the environment.

    Raises RequestError if `url` is no address.
    """
    key = api_key or os.environ.get("VLLM_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=checked_url(url), headers=headers, timeout=_ASK_S, verify=certificates())


def _first_model(url: str, api_key: str | None) -> str:
    """The first name that the server gives its model. Raises EngineError."""
    try:
        with http_client(url, api_key) as http:
            listed: Any = http.get("/v1/models").raise_for_status().json()
        return str(listed["data"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise EngineError(
            f"{url}/v1/models does not name a model ({type(error).__name__}: {error}); is this vllm serve?"
        ) from error
