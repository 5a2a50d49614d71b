"""`vllm-prm recipes`: which recipes there are, what one says, whether one of your own is sound."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vllm_prm.cli import options
from vllm_prm.errors import RecipeError

HELP = "list recipes, show one, check one of your own"
ABOUT = "A recipe is everything that makes a checkpoint a process reward model: see docs/recipes.md."
EXAMPLES = """examples:
  vllm-prm recipes                          names, the models each applies to by itself, and where its facts are from
  vllm-prm recipes math-shepherd            as JSON; a start for your own: save it, change it, --check it
  vllm-prm recipes --check my-prm.json      is it sound? (whether a model fits it: vllm-prm doctor --model M --recipe R)

exit status: 0; 1 no such recipe, or --check found a fault; 2 the command line is wrong"""


def add_parser(commands: Any) -> None:
    parser = options.add_command(commands, "recipes", HELP, ABOUT, EXAMPLES, run)
    parser.add_argument("name", nargs="?", help="show this one as JSON: a name, a JSON file or a model's folder")
    parser.add_argument(
        "--check", metavar="FILE", help="read a recipe's JSON file (or inline JSON) and say if it is sound"
    )


def run(args: argparse.Namespace) -> int:
    if args.check is not None:
        return check(args.check)
    return show(args.name) if args.name is not None else list_all()


def list_all() -> int:
    from vllm_prm.recipes.builtin import BUILT_IN

    for name in sorted(BUILT_IN):
        recipe = BUILT_IN[name]
        models = ", ".join(recipe.get("models", ())) or "(no model by itself)"
        print(f"{name}\n    models: {models}\n    source: {recipe['source']}")
    return 0


def show(name: str) -> int:
    from vllm_prm.recipes import load_recipe
    from vllm_prm.recipes.builtin import BUILT_IN

    # A template waits for tokens of yours, so it is no recipe yet; as JSON it shows what to fill in.
    fields = {"name": name, **BUILT_IN[name]} if name in BUILT_IN else json.loads(load_recipe(name).to_json())
    print(json.dumps(fields, ensure_ascii=False, indent=2))
    return 0


def check(spec: str) -> int:
    from vllm_prm.recipes import load_recipe

    if not spec.lstrip().startswith("{") and not Path(spec).exists():
        raise RecipeError(f"no file {spec!r}; expected a JSON file, or inline JSON starting with '{{'")
    recipe = load_recipe(spec)
    tags = " or ".join(str(tag.text or tag.piece or tag.id) for tag in recipe.step_tag)
    tokens = ", ".join(
        f"{t.label} = {t.piece if t.piece is not None else t.id} (weight {t.weight:g})" for t in recipe.scoring_tokens
    )
    print(f"ok    {recipe.name}: step tag {tags or '(none)'}; {tokens}; {recipe.activation}, {recipe.aggregation}")
    if not recipe.source:
        print('note  it has no "source": say where its facts come from, for whoever reads your numbers')
    if recipe.probe is None:
        print('note  it has no "probe" (a text and its token ids): with one, a wrong tokenizer is noticed at start-up')
    return 0
