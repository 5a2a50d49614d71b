"""The command-line seam: `vllm serve MODEL --task embed` and `--prm`.

Both only fill in vLLM's own options (`runner`, `convert`, `hf_overrides`), after the whole line is parsed: which
recipe applies depends on the model's name, wherever on the line that stands.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from vllm_prm.engine.start.options import engine_options
from vllm_prm.errors import RecipeError
from vllm_prm.recipes import find_recipe, load_recipe, recipe_names


def add_cli_args(original: Callable[..., Any], parser: Any, *args: Any, **kwargs: Any) -> Any:
    """vLLM's engine arguments, and ours."""
    parser = original(parser, *args, **kwargs)
    group = parser.add_argument_group(
        title="vllm-prm", description="Process reward models: --task embed, --prm RECIPE."
    )
    group.add_argument(
        "--task",
        choices=["embed", "reward"],
        default=None,
        help="Start a pooling server for a generation model. A known PRM, by its name or by the prm.json in its "
        "folder, answers with one score per reasoning step; any other model with its embedding. "
        "'reward' is the older spelling of the same.",
    )
    group.add_argument(
        "--prm",
        default=None,
        metavar="RECIPE",
        help=f"The PRM recipe to serve the model with: a name ({', '.join(recipe_names())}), a JSON file, or "
        "inline JSON. Implies --task embed.",
    )
    parse = parser.parse_known_args

    def parse_known_args(args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        parsed, rest = parse(args, namespace)
        try:
            _apply(parsed)
        except RecipeError as error:
            parser.error(str(error))
        return parsed, rest

    parser.parse_known_args = parse_known_args
    return parser


def _apply(args: argparse.Namespace) -> None:
    """Turn --task and --prm into vLLM's own options. Raises RecipeError."""
    if getattr(args, "task", None) is None and getattr(args, "prm", None) is None:
        return
    flag = "--prm" if args.prm is not None else f"--task {args.task}"
    for name, ours in (("runner", "pooling"), ("convert", "embed")):
        given = getattr(args, name, "auto")
        if given not in ("auto", ours):
            raise RecipeError(f"{flag} means --{name} {ours}, but --{name} {given} is given; drop one of the two")
        setattr(args, name, ours)
    by_flags = getattr(args.pooler_config, "tok_pooling_type", None) == "STEP"
    if by_flags and args.prm is not None:
        raise RecipeError(
            "--prm and a STEP --pooler-config both say what to score; keep --prm, or keep the pooler config"
        )
    if by_flags:
        # vLLM turns both off for STEP pooling, because its own STEP pooler loses the steps of cached or earlier
        # tokens. Ours keeps them (score_cache.py), so they are on as for a recipe, unless the line says otherwise.
        for name in ("enable_prefix_caching", "enable_chunked_prefill"):
            if getattr(args, name, None) is None:
                setattr(args, name, True)
        return
    model = getattr(args, "model_tag", None) or args.model
    recipe = load_recipe(args.prm) if args.prm is not None else find_recipe(model)
    if recipe is None:
        from vllm.logger import init_logger

        init_logger(f"vllm.{__name__}").warning(
            "No PRM recipe is known for %s, so it is served as a plain embedding model. If it is a PRM, name its "
            "recipe: --prm NAME (%s), --prm FILE.json, or a prm.json in its folder.",
            os.path.basename(model.rstrip("/")) or model,
            ", ".join(recipe_names()),
        )
        return
    given = {name: getattr(args, name, None) for name in ("hf_overrides", "pooler_config")}
    for name, value in engine_options(recipe, given).items():
        setattr(args, name, value)
