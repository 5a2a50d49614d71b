"""Recipes from names, files, JSON and model folders.

`"base": "lets-verify"` in JSON starts from a built-in recipe and replaces what is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vllm_prm.errors import RecipeError
from vllm_prm.recipes.builtin import BUILT_IN
from vllm_prm.recipes.tokens import piece_alone
from vllm_prm.recipes.types import Recipe

RECIPE_FILE = "prm.json"  # a model folder that carries this file is a known PRM


def recipe_names() -> list[str]:
    return sorted(BUILT_IN)


def load_recipe(spec: str | Mapping[str, Any]) -> Recipe:
    """A recipe from a built-in name, the path of a JSON file, inline JSON, or a mapping.

    Raises RecipeError that says what was found and what is known.
    """
    if isinstance(spec, Mapping):
        return _from_dict(dict(spec))
    text = spec.strip()
    if text.startswith("{"):
        return _from_dict(_parse(text, "inline recipe"))
    if text.lower() in BUILT_IN:
        return _from_dict({"base": text.lower()})
    path = Path(text)
    if path.is_dir():
        path = path / RECIPE_FILE
    if path.is_file():
        return _from_dict(_parse(path.read_text(encoding="utf-8"), f"recipe file {path}"))
    raise RecipeError(
        f"no recipe {spec!r}: known recipes are {_listed(recipe_names())}; "
        "or give a JSON file that exists, or inline JSON starting with '{'"
    )


def find_recipe(model: str) -> Recipe | None:
    """The recipe a model brings or is known by; None if there is none.

    A local folder's own `prm.json` comes first, then the last part of the name, in any case.
    """
    folder = Path(model)
    if (folder / RECIPE_FILE).is_file():
        return load_recipe(str(folder / RECIPE_FILE))
    last = Path(model.rstrip("/")).name.lower()
    for name, fields in BUILT_IN.items():
        if last in (known.lower() for known in fields.get("models", ())):
            return load_recipe(name)
    return None


def recipe_for(model: str, spec: str | None, how_to_name: str) -> Recipe:
    """The recipe that `spec` names; None: the one the model brings or is known by.

    how_to_name: how the caller's user names one, for the message. Raises RecipeError if there is none.
    """
    recipe = load_recipe(spec) if spec else find_recipe(model)
    if recipe is None:
        raise RecipeError(
            f"no recipe is known for {model!r}: name one, {how_to_name}, of {', '.join(recipe_names())}; or give a "
            "JSON file, or put a prm.json into the model's folder"
        )
    return recipe


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(
            f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            'expected an object such as {"name": ..., "step_tag": ..., "scoring_tokens": ...}'
        ) from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{source} holds a {type(fields).__name__}; expected an object")
    return fields


def _from_dict(fields: dict[str, Any]) -> Recipe:
    base = fields.pop("base", None)
    if base is not None:
        if base not in BUILT_IN:
            raise RecipeError(f"no recipe {base!r} to base this one on: known are {_listed(recipe_names())}")
        fields = _merged({"name": base, **BUILT_IN[base]}, fields)
    try:
        return TypeAdapter(Recipe).validate_python(fields)
    except ValidationError as error:
        for fault in error.errors():
            if isinstance(recipe_error := fault.get("ctx", {}).get("error"), RecipeError):
                raise recipe_error from None  # our own sentence needs no wrapping
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}, found {fault['input']!r}"
            for fault in error.errors()
        )
        raise RecipeError(f"recipe {fields.get('name', '(no name)')!r} is malformed: {faults}") from error


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`; scoring tokens are merged label by label, so that weights can be kept."""
    merged = {**base, **over}
    if "step_tag" in over and "prompt" not in over and base.get("prompt"):
        # Another tag: the prompt writes that one, at the places of the base's.
        merged["prompt"] = {name: value for name, value in base["prompt"].items() if name != "tag"}
    if isinstance(prompt := over.get("prompt"), Mapping) and "kind" not in prompt:
        # Of the base's kind, and so with what else it writes. A section that names its kind stands for itself.
        merged["prompt"] = {**base.get("prompt", {}), **prompt}
    if isinstance(over.get("scoring_tokens"), Mapping):
        tokens = dict(base["scoring_tokens"])
        for label, entry in over["scoring_tokens"].items():
            token, old = piece_alone(entry), dict(tokens.get(label, {}))
            if isinstance(token, Mapping):
                if "piece" in token or "words" in token:
                    for name in ("piece", "id", "words"):  # another token: none of the base's speaks of it
                        old.pop(name, None)
                token = {**old, **token}
            tokens[label] = token
        merged["scoring_tokens"] = tokens
        if "probe" not in over:
            merged.pop("probe", None)  # the base's probe speaks of the base's tokens
    return merged


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
