"""vLLM's engine options from words of a command line, as the keyword arguments of `LLM` (and PRM)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from vllm_prm.engine.compat import check_vllm

_USAGE = "vllm-prm COMMAND ... -- VLLM_ENGINE_OPTIONS (as `vllm serve` takes them: --dtype float32 --max-model-len 4k)"


def engine_arguments(words: Sequence[str]) -> dict[str, Any]:
    """What is said in `words`, parsed as `vllm serve` parses it; what is not said is not in the result.

    Ends the program with vLLM's own message (exit status 2) if an option is unknown or its value is wrong. Raises
    UnsupportedError if vLLM is missing or not one that we know.
    """
    check_vllm()
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(prog="vllm-prm", usage=_USAGE, add_help=False))
    for action in parser._actions:
        action.default = argparse.SUPPRESS  # so that only what was said is passed on
    return vars(parser.parse_args(list(words)))
