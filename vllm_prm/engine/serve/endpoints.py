"""The `vllm.endpoint_plugins` entry point: puts our HTTP routes on vLLM's API server.

vLLM adds a plugin's routes only if VLLM_PLUGINS names it: start the server with `VLLM_PLUGINS=prm vllm serve ...`.
The name stands for both of our plugins. Without the variable `/v1/embeddings` still gives step scores, and our paths
answer 404; with it set to something else, nothing of vllm-prm is loaded.

What needs vLLM is imported when the routes are added, so that a vLLM that we do not know is left alone, as
engine/start/plugin.py leaves it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.compat import untested
from vllm_prm.engine.serve.ranks import RankHeader, follow_ranks
from vllm_prm.engine.settings import is_prm, recipe_of, scores_by_generating

if TYPE_CHECKING:
    from argparse import Namespace

    from fastapi import FastAPI
    from starlette.datastructures import State
    from vllm.engine.protocol import EngineClient

logger = logging.getLogger("vllm.vllm_prm")


class PRMEndpoints:
    """vLLM's EndpointPlugin. Its routes exist for every model; one that has no recipe is told so."""

    name = "prm"
    required_tasks = None

    def __init__(self) -> None:
        self._attached = False

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes. Never raises: where they cannot be added, vLLM serves its own."""
        if untested() is not None:
            return  # register() has said it, in this process
        try:
            from vllm_prm.engine.serve.routes import router
        except Exception as error:  # noqa: BLE001 - a server that cannot have our routes is still vLLM's server
            logger.warning(
                "vllm-prm could not add its routes (/v1/prm/score and others) to this vLLM; everything else works as "
                "without them. `vllm-prm doctor` says what is missing. Cause: %s: %s",
                type(error).__name__,
                error,
            )
            return
        app.include_router(router)
        if _has_several_engines(getattr(app.state, "args", None)):
            app.add_middleware(RankHeader)
        _guard(app)
        self._attached = True

    async def init_state(self, engine_client: EngineClient | None, state: State, args: Namespace) -> None:
        if engine_client is None or not self._attached:
            return
        model_config = engine_client.model_config
        scores_steps = is_prm(model_config) or scores_by_generating(model_config)
        recipe = recipe_of(model_config) if scores_steps else None
        if recipe is None:
            state.prm_serving = _why_not(model_config)
            return
        from vllm.entrypoints.serve.utils.request_logger import RequestLogger

        from vllm_prm.engine.serve.serving import PRMServing

        if _has_several_engines(args):
            follow_ranks(engine_client)
        request_logger = RequestLogger(max_log_len=args.max_log_len) if args.enable_log_requests else None
        state.prm_serving = PRMServing(engine_client, state.openai_serving_models, recipe, request_logger)


def _has_several_engines(args: Any) -> bool:
    return (getattr(args, "data_parallel_size", None) or 1) > 1


def _guard(app: FastAPI) -> None:
    """Ask for the server's API key at our paths outside the ones that vLLM guards."""
    from vllm import envs

    from vllm_prm.engine.serve.routes import RewardKey

    args = getattr(app.state, "args", None)
    keys = [key for key in (getattr(args, "api_key", None) or [envs.VLLM_API_KEY]) if key]  # as vLLM finds them
    if keys:
        app.add_middleware(RewardKey, tokens=keys)


def _why_not(model_config: Any) -> str:
    if is_prm(model_config):
        return (
            "This server scores steps by its --pooler-config, which does not say how a question and steps become a "
            "prompt. Send whole prompts to /v1/embeddings, or start the server with a recipe: --prm RECIPE."
        )
    return (
        "This server does not serve a process reward model. Start it with --task embed for a model whose recipe is "
        "known, or with --prm RECIPE (and --runner generate, if it is to generate text as well)."
    )
