"""What can go wrong, as types.

PRMError
  RecipeError       a recipe is malformed or unknown, or the model or tokenizer does not fit it: at start-up
  RequestError      one request asks for what cannot be: HTTP 400, ValueError offline; the engine lives on
  UnsupportedError  this engine configuration cannot serve a PRM: at start-up
  UnreachableError  nothing answers at a server's address
  BatchError        some solutions of a batch have no score; it carries the others' scores

RecipeError and RequestError are ValueErrors too, because that is what vLLM turns into HTTP 400 and what its
offline callers catch. Every message says what was found, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PRMError(Exception):
    """Base of every error this package raises on purpose."""


class RecipeError(PRMError, ValueError):
    """A recipe is malformed or unknown, or the served model or tokenizer does not fit it."""


class RequestError(PRMError, ValueError):
    """A request cannot be answered; only that request is refused."""


class UnsupportedError(PRMError, ValueError):
    """The engine is configured in a way that cannot give right scores."""


class UnreachableError(PRMError):
    """Nothing accepts connections at the server's address, after all retries."""


class BatchError(PRMError):
    """Some items of a batch could not be scored. Raised after every other item has been.

    results: one entry per item, in the order given: its result, or the PRMError that it met.
    errors: the failed ones by index.
    """

    def __init__(self, results: Sequence[Any]) -> None:
        self.results = list(results)
        self.errors = {i: result for i, result in enumerate(self.results) if isinstance(result, PRMError)}
        first = next(iter(self.errors), None)
        detail = "" if first is None else f"; the first is item {first} (counting from 0): {self.errors[first]}"
        super().__init__(
            f"{len(self.errors)} of {len(self.results)} items could not be scored{detail}. "
            "The scores of the others are in this error's .results; pass on_error='return' to get such a list "
            "instead of this error"
        )

    def __reduce__(self) -> tuple[type[BatchError], tuple[list[Any]]]:
        return type(self), (self.results,)
