"""Who scores: an engine in this process (--model) or a server (--server), by the same options in every command."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_prm.cli.lines import Ask, Split
from vllm_prm.cli.patience import Patient, say
from vllm_prm.errors import EngineError, RecipeError, RequestError

if TYPE_CHECKING:
    from vllm_prm.client import PRMClient
    from vllm_prm.recipes import Recipe
    from vllm_prm.scorer import Scorer

OFFLINE_BATCH = 512  # twice vLLM's usual max_num_seqs of 256: the engine stays full, and 512 solutions are soon done
SERVER_BATCH = 128  # a server batches over all its clients; smaller ones lose less when it goes away


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who scores (one of --model and --server)")
    group.add_argument("--model", metavar="M", help="name or folder of a PRM, for an engine in this process")
    group.add_argument(
        "--recipe",
        metavar="R",
        help="recipe for --model: a name (see `vllm-prm recipes`), a JSON file, inline JSON; "
        "not needed for a known model or a folder with a prm.json",
    )
    group.add_argument(
        "--server",
        metavar="URL",
        help="a server that runs, such as http://localhost:8000 (VLLM_PLUGINS=prm vllm serve M --task embed)",
    )
    group.add_argument("--served-model", metavar="NAME", help="which of the server's models, if it serves several")
    group.add_argument("--api-key", metavar="KEY", help="the server's API key; default: $VLLM_API_KEY")
    group.add_argument("--batch-size", type=positive, metavar="N", help="solutions to score and write at a time")
    group.add_argument(
        "--patience",
        type=float,
        default=300.0,  # a restart with weights to load from disk takes minutes
        metavar="S",
        help="seconds to wait for a server that does not answer before giving up (300)",
    )


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def aggregation(text: str) -> str:
    """The name of an aggregation, checked."""
    from vllm_prm.aggregate import check_aggregation

    try:
        check_aggregation(text)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


class Source:
    """The scorer that the options name. Knows its recipe at once; starts an engine only when `open` is called."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises RequestError if the options do not name one scorer, RecipeError, PRMError if there is no server."""
        if (args.model is None) == (args.server is None):
            found = "neither" if args.model is None else "both"
            raise RequestError(
                f"{found} of --model and --server given; expected --model M (an engine in this process) "
                "or --server URL (one that runs)"
            )
        self._engine_words: Sequence[str] = args.engine_words
        if args.server is not None and (args.recipe is not None or self._engine_words):
            what = "--recipe" if args.recipe is not None else "engine options after --"
            raise RequestError(f"{what} cannot be used with --server: the server was started with its own")
        self._client: PRMClient | None = None
        self._model: str | None = args.model
        self._patience: float = args.patience
        if args.server is None:
            self.name = Path(args.model).resolve().name if Path(args.model).is_dir() else args.model
            self.recipe = recipe_for(args.model, args.recipe)
        else:
            from vllm_prm.client import PRMClient

            self._client = PRMClient(args.server, args.served_model, args.api_key)
            self.recipe = self._client.recipe
            self.name = args.served_model or _served_model(args.server, args.api_key)
        self.batch_size: int = args.batch_size or (OFFLINE_BATCH if args.server is None else SERVER_BATCH)

    @property
    def split(self) -> Split:
        """A solution's text into steps, as the recipe splits."""
        from vllm_prm.prompts import split_steps

        return lambda text: split_steps(text, self.recipe)

    def made_by(self, **more: Any) -> dict[str, Any]:
        """For "scored_by": which model and recipe, and what else makes the numbers what they are."""
        return {"model": self.name, "recipe": self.recipe.name, **more}

    def open(self) -> Scorer:
        """The scorer; a context manager. For --model this boots the engine."""
        if self._client is not None:
            return self._client
        assert self._model is not None
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # a progress bar and hundreds of log lines do not mix
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout may be carrying the results
        say(f"starting an engine for {self._model} (recipe {self.recipe.name})")
        from vllm_prm.engine.serve.offline import PRM
        from vllm_prm.engine.start.arguments import engine_arguments

        return PRM(self._model, self.recipe, **engine_arguments(self._engine_words))

    def score_all(self, scorer: Scorer) -> Callable[[list[Ask]], list[Any]]:
        """A function from solutions to their results, each a StepScores or the PRMError in its place."""
        score_batch = functools.partial(scorer.score_batch, on_error="return", progress=False)
        return score_batch if self._client is None else Patient(score_batch, self._patience)


def recipe_for(model: str, spec: str | None) -> Recipe:
    from vllm_prm.recipes import find_recipe, load_recipe, recipe_names

    recipe = load_recipe(spec) if spec is not None else find_recipe(model)
    if recipe is None:
        raise RecipeError(
            f"no recipe is known for {model!r}; name one with --recipe ({', '.join(recipe_names())}, or a JSON file), "
            "or put a prm.json into the model's folder"
        )
    return recipe


def _served_model(url: str, api_key: str | None) -> str:
    """The first name that the server gives its model."""
    import httpx

    from vllm_prm.client.transport import certificates, checked_url

    key = api_key or os.environ.get("VLLM_API_KEY")
    where = f"{checked_url(url)}/v1/models"
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx.get(where, headers=headers, timeout=60, verify=certificates())  # s; it is idle
        return str(answer.raise_for_status().json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise EngineError(
            f"{where} does not name a model ({type(error).__name__}: {error}); is this vllm serve?"
        ) from error
