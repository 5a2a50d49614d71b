"""Pydantic's faults of a body, told in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm_prm.inputs import shown

OURS = "prm"  # the type of a fault whose message is a sentence of ours already
ONE, SEVERAL = "[one]", "[several]"  # tags of a union's branches: they stand in a fault's path, and are no field
_MAX_FAULTS = 5  # told in one message: the first says what to mend, a list of thousands says nothing


def explain(faults: Sequence[Any]) -> tuple[str, str | None]:
    """Pydantic's (or FastAPI's) list of faults -> (one sentence for people, path of the first fault or None)."""
    explained = [_explained(fault) for fault in faults[:_MAX_FAULTS]]
    more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
    return "; ".join(sentence for sentence, _ in explained) + more, explained[0][1] if explained else None


def _explained(fault: Any) -> tuple[str, str | None]:
    if not isinstance(fault, Mapping):
        return str(fault), None
    loc = [part for part in fault["loc"] if part not in (ONE, SEVERAL)]
    if loc[:1] in (["body"], ["query"]):
        loc = loc[1:]
    kind = fault["type"]
    if kind == "json_invalid":
        place = f" at character {loc[0]}" if loc else ""  # FastAPI tells it there, pydantic in the error's text
        return f"the body is not JSON: {fault['ctx']['error']}{place}", None
    path = ".".join(map(str, loc)) or None
    if kind == "missing":
        text = "is missing" if path else "the body is empty; expected a JSON object"
    elif kind == "extra_forbidden":
        text = "is not a field of this request; check its spelling"
    elif kind == OURS:
        text = fault["msg"]
    elif kind in ("model_type", "model_attributes_type"):
        text = f"expected a JSON object, found {shown(fault.get('input'))}"
    else:
        text = f"{fault['msg'][:1].lower()}{fault['msg'][1:]}, found {shown(fault.get('input'))}"
    return f"{path}: {text}" if path else text, path
