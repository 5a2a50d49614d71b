"""What can go wrong, as types that say whose fault it is.

PRMError
  RequestError         what was sent cannot be scored: HTTP 400, ValueError offline; nothing else is lost
  ScorerError          what scores is at fault; no other input would help
    RecipeError        a recipe is malformed or unknown, or the model or tokenizer does not fit it: at start-up
    UnsupportedError   the engine's options contradict each other, or cannot give right scores: at start-up
    EngineError        the engine, or the server before it, failed or gave something that is no answer
      UnreachableError nothing answers at the server's address
  BatchError           some solutions of a batch have no score; it carries the others' scores

RequestError, RecipeError and UnsupportedError are ValueErrors too, because that is what vLLM turns into HTTP 400 and
what its offline callers catch. Every message says what was found, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PRMError(Exception):
    """Base of every error this package raises on purpose."""


class RequestError(PRMError, ValueError):
    """What was sent cannot be scored; only that request, or that solution of a batch, is refused."""


class ScorerError(PRMError):
    """The recipe, the configuration, the engine or the server is at fault, not what was sent."""


class RecipeError(ScorerError, ValueError):
    """A recipe is malformed or unknown, or the served model or tokenizer does not fit it."""


class UnsupportedError(ScorerError, ValueError):
    """The engine's options contradict each other, or cannot give right scores."""


class EngineError(ScorerError):
    """The engine, or the server before it, failed or gave something that is no answer."""


class UnreachableError(EngineError):
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
