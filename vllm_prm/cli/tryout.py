"""`vllm-prm recipes --try`: a recipe against one model's tokenizer, as tokens with the positions that are read.

An engine is asked only for scores, if it is at hand; everything else needs a tokenizer alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vllm_prm.cli.shown import in_colour, legend, tokens_shown, visible
from vllm_prm.cli.sources import ModelSource, ServerSource, Source, http_client
from vllm_prm.client.completions.tokenizers import read_tokenizer
from vllm_prm.errors import PRMError, RequestError
from vllm_prm.prompts import Prompt, Scoring, split_steps
from vllm_prm.recipes import BoundRecipe, Recipe, bind, load_recipe
from vllm_prm.recipes.pieces import piece_text
from vllm_prm.scores import StepScores

QUESTION = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
STEPS = ("12 + 5 = 17", "17 - 9 = 7")  # the second one is wrong
_CONTEXT = 24  # characters up to a read position that are shown beside it
_BEGINNING = 28  # and characters of the step


def run(args: argparse.Namespace) -> int:
    if args.model is None:
        raise RequestError("--try needs a tokenizer: add --model, the folder or name of the model")
    if args.score and args.server is not None:
        raise RequestError(
            "both --score and --server given; --score starts an engine here, --server asks one that runs"
        )
    recipe = load_recipe(args.try_)
    tokenizer = read_tokenizer(args.model, "give --model the folder or name of a model that has one")
    bound = bind(recipe, tokenizer)
    question, steps = _solution(args, recipe)
    scoring = Scoring(question, steps, bound)
    colour = in_colour()
    print(_head(bound, args.model))
    for number, prompt in enumerate(scoring.prompts, 1):
        _show(prompt, number, len(scoring.prompts), bound, colour)
    if recipe.prompt_format.asks_again:
        print("(the next prompts hold what the model answers to this one)\n")
    scores = _scores(args, recipe, question, steps)
    print(_table(scoring.prompts, steps, bound, scores))
    if scores is None:
        print("\nscores: add --score (starts vLLM here) or --server URL (asks one that runs)")
    else:
        print(_verdict(scores))
    return 0


def _solution(args: argparse.Namespace, recipe: Recipe) -> tuple[str, list[str]]:
    if args.solution is not None and args.steps is not None:
        raise RequestError("both --steps and --solution given; a solution is cut into steps, and steps are cut already")
    steps = split_steps(args.solution, recipe) if args.solution is not None else list(args.steps or STEPS)
    return QUESTION if args.question is None else args.question, steps


def _head(bound: BoundRecipe, model: str) -> str:
    recipe = bound.recipe
    columns = bound.scoring_texts or ["class"] * len(bound.scoring_ids)
    tokens = ", ".join(
        f"{token.label} {text!r} ({id_}, weight {token.weight:g})"
        for token, text, id_ in zip(recipe.scoring_tokens, columns, bound.scoring_ids, strict=True)
    )
    if bound.answers is not None:
        chats = "one chat for all steps" if bound.answers.in_one_chat else "one chat per step"
        where = f"where the model's answer begins, after {bound.answers.opening!r}; {chats}"
    elif not bound.step_tags:
        where = "the last token of each step"
    else:
        tags = " or ".join(
            f"{text!r} ({', '.join(map(str, ids))})"
            for text, ids in zip(bound.step_tag_texts, bound.step_tags, strict=True)
        )
        where = f"{'the token before ' if recipe.offset else 'the step tag '}{tags}"
    lines = [
        f"recipe   {recipe.name}, by the tokenizer of {model}",
        f"scores   {tokens}; {recipe.activation}",
        f"read     {where}",
        *([] if bound.notice is None else [f"NOTE     {bound.notice}"]),
    ]
    return "\n".join(lines) + "\n"


def _show(prompt: Prompt, number: int, count: int, bound: BoundRecipe, colour: bool) -> None:
    which = f"prompt {number} of {count}" if count > 1 else "prompt"
    print(f"{which}: {len(prompt.token_ids)} tokens, {len(prompt.positions)} of them read ({legend(colour)})\n")
    pieces = [str(piece) for piece in bound.tokenizer.convert_ids_to_tokens(list(prompt.token_ids))]
    tags = {position - bound.recipe.offset for position in prompt.positions} if bound.step_tags else set()
    print(tokens_shown(pieces, set(prompt.positions), tags, colour), end="\n\n")


def _table(prompts: Sequence[Prompt], steps: Sequence[str], bound: BoundRecipe, scores: StepScores | None) -> str:
    """One line for each step: where it is read, and its scores if there are any."""
    places = [f"{position}  after  {_context(prompt, position, bound)}" for prompt, position in _places(prompts)]
    rows = [["step", "", "read at token"]]
    for index, step in enumerate(steps):
        begins = visible(step).replace("\n", "")[:_BEGINNING]
        rows.append([str(index + 1), begins, places[index] if index < len(places) else "(asked later)"])
    if scores is not None:
        rows[0] += ["score", *(f"p({label})" for label in scores.labels)] + ["together"] * bool(scores.answer_mass)
        for index, row in enumerate(rows[1:]):
            numbers = (scores.step_scores[index], *scores.probabilities[index], *scores.answer_mass[index : index + 1])
            row += [f"{number:.4f}" for number in numbers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _places(prompts: Sequence[Prompt]) -> list[tuple[Prompt, int]]:
    """Where each step is read; of a prompt about one step, its last position, which gives the score."""
    if len(prompts) == 1:
        return [(prompts[0], position) for position in prompts[0].positions]
    return [(prompt, prompt.positions[-1]) for prompt in prompts]


def _context(prompt: Prompt, position: int, bound: BoundRecipe) -> str:
    """The text up to and including the token that is read, on one line."""
    pieces = bound.tokenizer.convert_ids_to_tokens(list(prompt.token_ids[max(0, position - _CONTEXT) : position + 1]))
    text = visible("".join(piece_text(str(piece)) for piece in pieces)).replace("\n", "")
    return "…" + text[-_CONTEXT:] if len(text) > _CONTEXT else text


def _scores(args: argparse.Namespace, recipe: Recipe, question: str, steps: list[str]) -> StepScores | None:
    """From an engine here or a server; None if neither is asked for. Raises PRMError."""
    if args.server is None and not args.score:
        return None
    source = (
        _server(args, recipe)
        if args.server is not None
        else ModelSource(args.model, args.try_, args.engine_words, None)
    )
    sys.stdout.flush()  # an engine takes half a minute to start: the tokens shall stand there meanwhile
    with source.open() as score:
        (result,) = score([(question, steps)])
    if isinstance(result, PRMError):
        raise result
    return result


def _server(args: argparse.Namespace, recipe: Recipe) -> Source:
    """A server with our plugin must read this recipe; any other one is asked by it, token by token."""
    if args.engine_words:
        raise RequestError("engine options after -- cannot be used with --server: the server was started with its own")
    with http_client(args.server, args.api_key) as http:
        import httpx

        try:
            response = http.get("/v1/prm/recipe")
        except httpx.HTTPError as error:
            raise RequestError(f"{args.server} does not answer ({error}); is it up, and the address right?") from error
    has_plugin = response.status_code == 200
    if has_plugin and load_recipe(response.json()["recipe"]) != recipe:
        raise RequestError(
            f"{args.server} reads the recipe {response.json()['recipe'].get('name')!r} and not this one; serve with "
            f"--prm {args.try_}, or leave --server out and add --score"
        )
    return ServerSource(
        args.server,
        None,
        args.api_key,
        batch_size=None,
        solutions_per_request=1,
        keep_questions_apart=False,
        patience_s=0.0,
        recipe=None if has_plugin else recipe.to_json(),
        tokenizer=None if has_plugin else args.model,
    )


def _verdict(scores: StepScores) -> str:
    error = scores.first_error()
    first = "none" if error is None else str(error + 1)
    return f"\n{scores.aggregation} {scores.aggregate():.4f}, first wrong step: {first}"
