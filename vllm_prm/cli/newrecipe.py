"""`vllm-prm recipes --new`: a recipe from a few answers or from flags, tried on a tokenizer if one is at hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_prm.cli.options import NEW_KINDS as KINDS
from vllm_prm.cli.tryout import QUESTION
from vllm_prm.client.completions.tokenizers import read_tokenizer
from vllm_prm.errors import PRMError, RecipeError, RequestError
from vllm_prm.prompts import Scoring
from vllm_prm.recipes import bind, load_recipe
from vllm_prm.recipes.pieces import SPACE_MARKS

# Steps that a new recipe is tried on: a full stop and a digit, both of which a tag may merge with.
_SAMPLE = ["12 + 5 = 17.", "17 - 9 = 8", "So 8."]


@dataclass(frozen=True)
class Asked:
    """One thing to know. flag: of the command line, by its name in the namespace. default: None, it must be given."""

    flag: str
    text: str
    default: str | None
    of: tuple[str, ...] = KINDS  # the kinds of prompt that have it


_TAGGED = tuple(kind for kind in KINDS if kind != "judge")
# In the order of the questions. The defaults are those of `recipes.PromptFormat` and the built-in judge.
QUESTIONS = (
    Asked("kind", f"How is the prompt written: {', '.join(KINDS)}", "raw"),
    Asked("tag", "Text that ends a step, the tag (for example \\n\\n or ки)", None, _TAGGED),
    Asked("read", "Where is the model read: at the tag, or before it", "at", _TAGGED),
    Asked("good", "Token of a good step (for example +)", None, _TAGGED),
    Asked("bad", "Token of a bad step (for example -)", None, _TAGGED),
    Asked("question_format", "What stands before the first step", "{question}\\n", _TAGGED),
    Asked("step_format", "How a step is written ({k} is its number)", "{step}", _TAGGED),
    Asked("rubric", "What makes a step a good one (the rubric)", "", ("judge",)),
    Asked("good", "Word for a good step", "Yes", ("judge",)),
    Asked("bad", "Word for a bad step", "No", ("judge",)),
)


def run(args: argparse.Namespace) -> int:
    path = Path(args.new)
    if path.exists() and not args.overwrite:
        raise RequestError(f"{path} is there already; give another name, or --overwrite")
    if not path.parent.is_dir():
        raise RequestError(f"there is no folder {path.parent} to write {path.name} into")
    otherwise = "give --model the folder or name of the model, or leave it out"
    asks = _must_ask(args)
    if asks:
        print("A recipe in one minute. Enter takes what stands in [brackets]; \\n is a newline, \\t a tab.")
        if args.model is None:
            args.model = _answer(
                "The model's folder or name, for its tokenizer (nothing: tokens as vocabulary pieces)", ""
            )
    tokenizer = read_tokenizer(args.model, otherwise) if args.model else None
    fields = _asked(args, tokenizer, path.stem) if asks else _made(_given(args), tokenizer, path.stem)
    path.write_text(json.dumps(fields, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
    model = args.model or "MODEL"
    print(f"  look at it   vllm-prm recipes --try {path} --model {model}")
    print(f"  serve it     vllm serve {model} --task embed --prm {path}")
    return 0


def _must_ask(args: argparse.Namespace) -> bool:
    """Whether something is missing that has no default. Raises RequestError if there is nobody to ask."""
    missing = [
        f"--{each.flag}" for each in _of_kind(args.kind or "raw") if each.default is None and _flag(args, each) is None
    ]
    if missing and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise RequestError(
            f"{', '.join(missing)} missing, and there is no terminal to ask on; for example: vllm-prm recipes --new "
            "my-prm.json --tag '\\n\\n' --good + --bad - --model FOLDER (or --kind judge, which needs neither)"
        )
    return bool(missing)


def _of_kind(kind: str) -> list[Asked]:
    return [each for each in QUESTIONS if kind in each.of]


def _flag(args: argparse.Namespace, asked: Asked) -> str | None:
    value: str | None = getattr(args, asked.flag)
    return None if value is None else _unescaped(value)


def _given(args: argparse.Namespace) -> dict[str, str]:
    kind = args.kind or "raw"
    return {
        each.flag: value if (value := _flag(args, each)) is not None else _unescaped(each.default or "")
        for each in _of_kind(kind)
    } | {"kind": kind}


def _asked(args: argparse.Namespace, tokenizer: Any, name: str) -> dict[str, Any]:
    """Ask for what no flag gave. What cannot be is told, and all is asked again, with the answers as defaults."""
    answers: dict[str, str] = {}
    while True:
        kind = args.kind or _chosen(QUESTIONS[0], answers.get("kind"), KINDS)
        for each in _of_kind(kind)[1:]:
            if (value := _flag(args, each)) is not None:
                answers[each.flag] = value
                continue
            before = answers.get(each.flag)
            default = each.default if before is None else _escaped(before)
            choices = ("at", "before") if each.flag == "read" else None
            answer = _chosen(each, default, choices) if choices else _answer(each.text, default)
            answers[each.flag] = _unescaped(answer)
        answers["kind"] = kind
        try:
            return _made(answers, tokenizer, name)
        except PRMError as error:
            print(f"\nThat does not work: {error}\n\nOnce more:")


def _chosen(asked: Asked, default: str | None, choices: tuple[str, ...]) -> str:
    while (answer := _answer(asked.text, default or asked.default)) not in choices:
        print(f"{answer!r} is none of {', '.join(choices)}")
    return answer


def _answer(text: str, default: str | None) -> str:
    """One line from the terminal. default: what an empty one means; None: it must not be empty."""
    shown = "" if not default else f" [{default}]"
    while True:
        try:
            line = input(f"{text}{shown}: ")
        except EOFError:
            raise RequestError("the answers ended before the last question; nothing was written") from None
        if line or default is not None:
            return line or default or ""


def _made(given: dict[str, str], tokenizer: Any, name: str) -> dict[str, Any]:
    """The recipe as JSON's fields, after it was loaded and, with a tokenizer, tried. Raises PRMError."""
    if given["kind"] == "judge":
        return _tried(_judge(given, name), tokenizer)
    try:
        return _tried(_tagged(given, tokenizer, name), tokenizer)
    except RequestError as error:
        fields = None if given["tag"][:1].isspace() else _with_a_space(given, tokenizer, name)
        if fields is None:
            raise RequestError(
                f"{error}. If the model was trained on steps that were tokenized each on its own, the kind is segments"
            ) from error
        print(
            f"note  the tag is written {fields['prompt']['tag']!r}: without the space it merges with the step before it"
        )
        return fields


def _tried(fields: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The same fields, if a solution can be read by them. Raises PRMError."""
    recipe = load_recipe(fields)
    if tokenizer is not None:
        Scoring(QUESTION, _SAMPLE, bind(recipe, tokenizer))
    return fields


def _with_a_space(given: dict[str, str], tokenizer: Any, name: str) -> dict[str, Any] | None:
    """With the tag's text after a space, which some vocabularies take into the token, if that can be read."""
    spaced = {**given, "tag": " " + given["tag"]}
    same_tokens = _tagged(given, tokenizer, name)
    same_tokens["prompt"]["tag"] = spaced["tag"]
    for fields in (same_tokens, _tagged(spaced, tokenizer, name)):
        try:
            return _tried(fields, tokenizer)
        except PRMError:
            continue
    return None


def _judge(given: dict[str, str], name: str) -> dict[str, Any]:
    good, bad = given["good"], given["bad"]
    fields: dict[str, Any] = {"base": "judge", "name": name}
    prompt = {"rubric": given["rubric"]} if given["rubric"] else {}
    if (good, bad) != ("Yes", "No"):
        prompt["step"] = f"Step {{k}}: {{step}}\n\nIs this step correct? Answer with one word, {good} or {bad}."
        words: Callable[[str], dict[str, Any]] = lambda word: {"words": [word, f" {word}"]}  # noqa: E731
        fields["scoring_tokens"] = {"yes": words(good), "no": words(bad)}
    return fields | ({"prompt": prompt} if prompt else {})


def _tagged(given: dict[str, str], tokenizer: Any, name: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "step_tag": _tag(given["tag"], tokenizer)}
    if given["read"] == "before":
        fields["offset"] = -1
    fields["scoring_tokens"] = {
        label: {**_token(label, given[label], tokenizer), "weight": weight}
        for label, weight in (("good", 1.0), ("bad", 0.0))
    }
    prompt = {"kind": given["kind"], "question": given["question_format"], "step": given["step_format"]}
    return {**fields, "prompt": {**prompt, "tag": given["tag"]}, "source": ""}


def _tag(text: str, tokenizer: Any) -> dict[str, Any]:
    """The tag's tokens as this tokenizer makes them of its text; without a tokenizer, the text as a piece."""
    if tokenizer is None:
        return {"piece": text}
    token_ids = list(tokenizer.encode(text, add_special_tokens=False))
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(token_ids)]
    return {"piece": pieces[0], "id": token_ids[0]} if len(pieces) == 1 else {"piece": pieces, "id": token_ids}


def _token(label: str, text: str, tokenizer: Any) -> dict[str, Any]:
    """One token: a piece of the vocabulary if it is spelled as one, else what the text becomes."""
    if tokenizer is None:
        return {"piece": text}
    vocabulary = tokenizer.get_vocab()
    if text in vocabulary and text[:1] in SPACE_MARKS:
        return {"piece": text, "id": vocabulary[text]}
    token_ids = list(tokenizer.encode(text, add_special_tokens=False))
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(token_ids)]
    if len(token_ids) == 1:
        return {"piece": pieces[0], "id": token_ids[0]}
    near = _like(text.strip(), vocabulary)
    what_to_do = f"single tokens like it: {', '.join(near)}" if near else "give the first, if it tells the two apart"
    raise RecipeError(
        f"the {label} token {text!r} is {len(token_ids)} tokens in this vocabulary, {pieces}, and a score is read from "
        f"one; {what_to_do}"
    )


def _like(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    """Single tokens that may have been meant: other spellings of the word, and how it begins."""
    words = (word, word.lower(), word.capitalize(), word[:1])
    return sorted({mark + each for each in words for mark in ("", *SPACE_MARKS)} & {*vocabulary})


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n").replace("\t", "\\t")
