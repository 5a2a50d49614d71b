"""What can go wrong, as types.

PRMError
  RecipeError       a recipe is malformed or unknown, or the model or tokenizer does not fit it: at start-up
  RequestError      one request asks for what cannot be: HTTP 400, ValueError offline; the engine lives on
  UnsupportedError  this engine configuration cannot serve a PRM: at start-up

RecipeError and RequestError are ValueErrors too, because that is what vLLM turns into HTTP 400 and what its
offline callers catch. Every message says what was found, what was expected and what to do.
"""


class PRMError(Exception):
    """Base of every error this package raises on purpose."""


class RecipeError(PRMError, ValueError):
    """A recipe is malformed or unknown, or the served model or tokenizer does not fit it."""


class RequestError(PRMError, ValueError):
    """A request cannot be answered; only that request is refused."""


class UnsupportedError(PRMError, ValueError):
    """The engine is configured in a way that cannot give right scores."""
