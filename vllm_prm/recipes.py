"""Recipes: what makes a checkpoint a process reward model.

A recipe says which token ends a step (the step tag), which vocabulary entries are read there (the scoring
tokens) and how much each counts as "good". Tokens are named by their vocabulary *piece* (`▁+`), not by text:
text goes through a tokenizer whose rules differ between libraries (`"+"` is 648 or 28806 in the same Mistral
vocabulary), a piece is one row of the head. Nothing here knows torch, vLLM or a tokenizer; `engine.vocabulary`
resolves pieces against the served one.

In JSON:

    {"name": "my-prm",
     "step_tag": {"piece": "▁ки", "id": 12902},
     "scoring_tokens": {"good": {"piece": "▁+", "id": 648, "weight": 1.0},
                        "bad":  {"piece": "▁-", "id": 387, "weight": 0.0}},
     "probe": {"text": "+ - ки", "ids": [1, 648, 387, 12902]},
     "source": "where these facts come from"}

`id` and `probe` are optional checks. `"base": "lets-verify"` starts from a built-in recipe and replaces what is
given; a bare string stands for `{"piece": ...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vllm_prm.errors import RecipeError

RECIPE_FILE = "prm.json"  # a model folder that carries this file is a known PRM

_STRICT = ConfigDict(extra="forbid")  # a misspelt field is a mistake, not an option
_Id = Annotated[int, Field(strict=True, ge=0)]
_Text = Annotated[str, Field(strict=True)]


def _piece_alone(value: Any) -> Any:
    return {"piece": value} if isinstance(value, str) else value


def _labelled(value: Any) -> Any:
    """{"good": {...}} as the list of tokens that it stands for."""
    if not isinstance(value, Mapping):
        return value
    return tuple(
        {"label": label, **token} if isinstance(token := _piece_alone(raw), Mapping) else raw
        for label, raw in value.items()
    )


@dataclass(frozen=True, config=_STRICT)
class StepTag:
    """The token that ends a step: its piece, and the id it must have (None: whatever the tokenizer says)."""

    piece: _Text
    id: _Id | None = None


@dataclass(frozen=True, config=_STRICT)
class ScoringToken:
    """One vocabulary entry read at the step tags.

    label: what it stands for ("good", "bad", ...), for messages and for overriding it in JSON.
    weight: how much of its probability counts towards the step score, in [0, 1].
    """

    label: _Text
    piece: _Text
    weight: Annotated[float, Field(strict=True, ge=0, le=1)]
    id: _Id | None = None


@dataclass(frozen=True, config=_STRICT)
class Probe:
    """A text and the token ids, BOS and the like included, that the tokenizer used in training makes of it."""

    text: _Text
    ids: tuple[_Id, ...]


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """Everything that makes a checkpoint a PRM. Validated on construction.

    The step score is sum(weight_i * p_i), p the softmax over the scoring tokens' logits at the step tag.
    models: names (last part, any case) that this recipe applies to by itself.
    """

    name: Annotated[_Text, Field(min_length=1)]
    step_tag: Annotated[StepTag, BeforeValidator(_piece_alone)]
    scoring_tokens: Annotated[tuple[ScoringToken, ...], BeforeValidator(_labelled), Field(min_length=1)]
    source: _Text = ""
    probe: Probe | None = None
    models: tuple[_Text, ...] = ()

    def __post_init__(self) -> None:
        tokens = self.scoring_tokens
        unset = [f"the {t.label!r} token" for t in tokens if not t.piece]
        if not self.step_tag.piece:
            unset.insert(0, "the step tag")
        if unset:
            raise RecipeError(
                f"recipe {self.name!r} leaves {', '.join(unset)} to you; name each as a vocabulary piece, "
                f"for example {_example(self.name, [t.label for t in tokens])}"
            )
        pieces = [t.piece for t in tokens]
        if len(set(pieces)) != len(pieces):
            raise RecipeError(f"recipe {self.name!r} names a piece twice among its scoring tokens: {_listed(pieces)}")
        if not any(token.weight > 0 for token in tokens):
            raise RecipeError(
                f"recipe {self.name!r} has weight 0 for every scoring token, so every step would score 0; "
                "give the token that means a good step weight 1"
            )

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(token.weight for token in self.scoring_tokens)

    def to_json(self) -> str:
        """One line of JSON that `load_recipe` reads back to an equal recipe."""
        raw = asdict(self)
        raw["scoring_tokens"] = {token.pop("label"): token for token in raw["scoring_tokens"]}
        return json.dumps(raw, ensure_ascii=False)


_BUILT_IN: dict[str, dict[str, Any]] = {
    "math-shepherd": {
        # Ids: model card of peiyi9979/math-shepherd-mistral-7b-prm, and Mistral v1's sentencepiece model.
        "step_tag": {"piece": "▁ки", "id": 12902},
        "scoring_tokens": {
            "good": {"piece": "▁+", "id": 648, "weight": 1.0},
            "bad": {"piece": "▁-", "id": 387, "weight": 0.0},
        },
        "probe": {"text": "+ - ки", "ids": [1, 648, 387, 12902]},
        "source": "https://huggingface.co/peiyi9979/math-shepherd-mistral-7b-prm",
        "models": ["math-shepherd-mistral-7b-prm"],
    },
    "lets-verify": {
        # Lightman et al. 2023, section 2.6: one of three tokens after each step, "neutral" counted as positive.
        "step_tag": "",
        "scoring_tokens": {
            "good": {"piece": "", "weight": 1.0},
            "neutral": {"piece": "", "weight": 1.0},
            "bad": {"piece": "", "weight": 0.0},
        },
        "source": "https://arxiv.org/abs/2305.20050",
    },
}


def recipe_names() -> list[str]:
    return sorted(_BUILT_IN)


def load_recipe(spec: str | Mapping[str, Any]) -> Recipe:
    """A recipe from a built-in name, the path of a JSON file, inline JSON, or a mapping.

    Raises RecipeError that says what was found and what is known.
    """
    if isinstance(spec, Mapping):
        return _from_dict(dict(spec))
    text = spec.strip()
    if text.startswith("{"):
        return _from_dict(_parse(text, "inline recipe"))
    if text.lower() in _BUILT_IN:
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
    for name, raw in _BUILT_IN.items():
        if last in (known.lower() for known in raw.get("models", ())):
            return load_recipe(name)
    return None


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            'expected an object such as {"name": ..., "step_tag": ..., "scoring_tokens": ...}'
        ) from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{what} holds a {type(raw).__name__}; expected an object")
    return raw


def _from_dict(raw: dict[str, Any]) -> Recipe:
    base = raw.pop("base", None)
    if base is not None:
        if base not in _BUILT_IN:
            raise RecipeError(f"no recipe {base!r} to base this one on: known are {_listed(recipe_names())}")
        raw = _merged({"name": base, **_BUILT_IN[base]}, raw)
    try:
        return TypeAdapter(Recipe).validate_python(raw)
    except ValidationError as error:
        for fault in error.errors():
            if isinstance(told := fault.get("ctx", {}).get("error"), RecipeError):
                raise told from None  # our own sentence needs no wrapping
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}, found {fault['input']!r}"
            for fault in error.errors()
        )
        raise RecipeError(f"recipe {raw.get('name', '(no name)')!r} is malformed: {faults}") from error


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`; scoring tokens are merged label by label, so that weights can be kept."""
    merged = {**base, **over}
    if isinstance(over.get("scoring_tokens"), Mapping):
        tokens = dict(base["scoring_tokens"])
        for label, raw in over["scoring_tokens"].items():
            token, old = _piece_alone(raw), dict(tokens.get(label, {}))
            if isinstance(token, Mapping):
                if "piece" in token:
                    old.pop("id", None)  # another piece: the base's id is no longer what to expect
                token = {**old, **token}
            tokens[label] = token
        merged["scoring_tokens"] = tokens
        if "probe" not in over:
            merged.pop("probe", None)  # the base's probe speaks of the base's tokens
    return merged


def _example(name: str, labels: list[str]) -> str:
    tokens = {label: f"▁{label}" for label in labels}
    raw = {"base": name, "step_tag": "▁ки", "scoring_tokens": tokens}
    return f"--prm '{json.dumps(raw, ensure_ascii=False)}'"


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
