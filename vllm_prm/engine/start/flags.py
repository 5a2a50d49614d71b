"""The command-line seam: `vllm serve MODEL --task embed` and `--prm`, with `--runner generate` too.

Both only fill in vLLM's own options (`runner`, `convert`, `hf_overrides`), after the whole line is parsed: which
recipe applies depends on the model's name, wherever on the line that stands.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from vllm_prm.engine.start.options import engine_options
from vllm_prm.errors import RecipeError, UnsupportedError
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
        metavar="[ADAPTER=]RECIPE",
        help=f"The PRM recipe to serve the model with: a name ({', '.join(recipe_names())}), a JSON file, or "
        "inline JSON. Implies --task embed, unless --runner generate is given: then the server generates text as ever, "
        "and /v1/prm/score is there beside it. ADAPTER is a name from --lora-modules, if that adapter is the PRM.",
    )
    parse = parser.parse_known_args

    def parse_known_args(args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        parsed, unknown = parse(args, namespace)
        try:
            _apply(parsed)
        except (RecipeError, UnsupportedError) as error:
            parser.error(str(error))
        return parsed, unknown

    parser.parse_known_args = parse_known_args
    return parser


def _apply(args: argparse.Namespace) -> None:
    """Turn --task and --prm into vLLM's own options. Raises UnsupportedError for options that contradict them."""
    if getattr(args, "task", None) is None and getattr(args, "prm", None) is None:
        return
    generates = args.prm is not None and args.task is None and args.runner == "generate"
    if not generates:
        _convert_to_pooling(args)
    has_step_pooler = getattr(args.pooler_config, "tok_pooling_type", None) == "STEP"
    if has_step_pooler and args.prm is not None:
        raise UnsupportedError(
            "--prm and a STEP --pooler-config both say what to score; keep --prm, or keep the pooler config"
        )
    if has_step_pooler:
        _turn_caching_on(args)
        return
    model = getattr(args, "model_tag", None) or args.model
    adapter, recipe_spec = _adapter_and_recipe(args)
    recipe = load_recipe(recipe_spec) if recipe_spec is not None else find_recipe(model)
    if recipe is None:
        _warn_that_no_recipe_is_known(model)
        return
    users_options = {name: getattr(args, name, None) for name in ("hf_overrides", "pooler_config", "runner")}
    for name, value in engine_options(recipe, users_options, adapter).items():
        setattr(args, name, value)


def _adapter_and_recipe(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """What --prm says: ADAPTER=RECIPE if --lora-modules has that adapter, else a recipe for the model itself.

    Raises UnsupportedError for a name before the sign that looks like an adapter's and is none.
    """
    if args.prm is None or "=" not in args.prm or args.prm.lstrip().startswith("{"):
        return None, args.prm
    name, _, recipe_spec = args.prm.partition("=")
    adapters = [module.name for module in getattr(args, "lora_modules", None) or []]
    if name in adapters:
        return name, recipe_spec
    if os.path.exists(args.prm):
        return None, args.prm
    raise UnsupportedError(
        f"--prm {args.prm} is for an adapter {name!r}, and --lora-modules has {', '.join(adapters) or 'none'}; "
        f"add --lora-modules {name}=FOLDER and --enable-lora, or give --prm {recipe_spec} alone"
    )


def _convert_to_pooling(args: argparse.Namespace) -> None:
    flag = "--prm" if args.prm is not None else f"--task {args.task}"
    for name, needed in (("runner", "pooling"), ("convert", "embed")):
        value = getattr(args, name, "auto")
        if value not in ("auto", needed):
            raise UnsupportedError(
                f"{flag} means --{name} {needed}, but --{name} {value} is given; drop one of the two"
            )
        setattr(args, name, needed)


def _turn_caching_on(args: argparse.Namespace) -> None:
    """As for a recipe, unless the line says otherwise.

    vLLM turns prefix caching and chunked prefill off for STEP pooling, because its own STEP pooler loses the steps of
    cached or earlier tokens. Ours keeps them (worker/score_cache.py).
    """
    for name in ("enable_prefix_caching", "enable_chunked_prefill"):
        if getattr(args, name, None) is None:
            setattr(args, name, True)


def _warn_that_no_recipe_is_known(model: str) -> None:
    from vllm.logger import init_logger

    init_logger(f"vllm.{__name__}").warning(
        "No PRM recipe is known for %s, so it is served as a plain embedding model. If it is a PRM, name its "
        "recipe: --prm NAME (%s), --prm FILE.json, or a prm.json in its folder.",
        os.path.basename(model.rstrip("/")) or model,
        ", ".join(recipe_names()),
    )
