"""`vllm-prm recipes`: which recipes there are, what one says, whether one of your own is sound."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vllm_prm.cli import options
from vllm_prm.errors import RecipeError, RequestError

HELP = "list recipes, show one; make, check and try one of your own"
ABOUT = "A recipe is everything that makes a checkpoint a process reward model: see docs/recipes.md."
EXAMPLES = """examples:
  vllm-prm recipes                          names, the models each applies to by itself, and where its facts are from
  vllm-prm recipes math-shepherd            as JSON; a start for your own: save it, change it, --check it
  vllm-prm recipes --check my-prm.json      is it sound? (whether a model fits it: vllm-prm doctor --model M --recipe R)
  vllm-prm recipes --new my-prm.json        asks for what a recipe needs, and writes it
  vllm-prm recipes --new my-prm.json --model ./my-prm --tag '\\n\\n' --good + --bad -
  vllm-prm recipes --new strict.json --kind judge --rubric 'Only what is proved is correct.'
  vllm-prm recipes --try my-prm.json --model ./my-prm --question 'Two plus two?' --steps '2 + 2 = 4' 'So 4.'
  vllm-prm recipes --try my-prm.json --model ./my-prm --score -- --dtype float32

exit status: 0; 1 no such recipe, or a fault was found in it; 2 the command line is wrong"""


def add_parser(commands: Any) -> None:
    parser = options.add_command(commands, "recipes", HELP, ABOUT, EXAMPLES, run)
    parser.add_argument("name", nargs="?", help="show this one as JSON: a name, a JSON file or a model's folder")
    parser.add_argument(
        "--check", metavar="FILE", help="read a recipe's JSON file (or inline JSON) and say if it is sound"
    )
    parser.add_argument("--model", metavar="M", help="with --new and --try: folder or name, for its tokenizer")
    _add_new(parser.add_argument_group("a new one (without --tag, --good and --bad it asks)"))
    _add_try(parser.add_argument_group("what a recipe reads (needs a tokenizer, and no engine)"))


def _add_new(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--new", metavar="FILE", help="write a recipe to this JSON file")
    group.add_argument("--overwrite", action="store_true", help="even if the file is there")
    group.add_argument(
        "--kind", choices=options.NEW_KINDS, help="how prompts are written (raw); judge: asked of any model"
    )
    group.add_argument("--tag", metavar="TEXT", help="the text that ends a step; \\n is a newline")
    group.add_argument("--read", choices=("at", "before"), help="at the tag (the default), or at the token before it")
    group.add_argument("--good", metavar="TOKEN", help="that a good step has; a word of the answer for a judge")
    group.add_argument("--bad", metavar="TOKEN", help="that a bad step has")
    group.add_argument("--question-format", metavar="TEXT", help="what stands before the first step, with {question}")
    group.add_argument("--step-format", metavar="TEXT", help="how a step is written, with {step}; {k} is its number")
    group.add_argument("--rubric", metavar="TEXT", help="for a judge: what makes a step a good one")


def _add_try(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--try", dest="try_", metavar="FILE", help="show the tokens of a solution and where they are read: name or JSON"
    )
    group.add_argument("--question", metavar="Q", help="the question (default: one about apples)")
    group.add_argument("--steps", metavar="S", nargs="+", help="the steps (default: a right one and a wrong one)")
    group.add_argument("--solution", metavar="TEXT", help="a whole solution, cut into steps as the recipe says")
    group.add_argument("--score", action="store_true", help="score as well, by an engine of --model in this process")
    group.add_argument("--server", metavar="URL", help="score as well, by a server that runs")
    options.add_api_key(group)


def run(args: argparse.Namespace) -> int:
    asked = [name for name in ("check", "new", "try_", "name") if getattr(args, name) is not None]
    if len(asked) > 1:
        flags = [name if name == "name" else f"--{name.rstrip('_')}" for name in asked]
        raise RequestError(f"{' and '.join(flags)} given; expected one of them")
    if args.new is not None:
        from vllm_prm.cli import newrecipe

        return newrecipe.run(args)
    if args.try_ is not None:
        from vllm_prm.cli import tryout

        return tryout.run(args)
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
    tokens = ", ".join(f"{t.label} = {t.spelled} (weight {t.weight:g})" for t in recipe.scoring_tokens)
    print(f"ok    {recipe.name}: step tag {tags or '(none)'}; {tokens}; {recipe.activation}, {recipe.aggregation}")
    if not recipe.source:
        print('note  it has no "source": say where its facts come from, for whoever reads your numbers')
    if recipe.probe is None:
        print('note  it has no "probe" (a text and its token ids): with one, a wrong tokenizer is noticed at start-up')
    return 0
