"""`vllm-prm serve MODEL`: `vllm serve MODEL --task embed` with our routes on, as one command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from vllm_prm.cli import options
from vllm_prm.errors import UnsupportedError

HELP = "serve a model as a PRM: vllm serve, with our routes"
ABOUT = """The same as `vllm serve MODEL --task embed` with VLLM_PLUGINS=prm, which adds the routes /v1/prm/score,
/v1/prm/recipe, /get_reward and the page /prm. Other plugins that are installed and would be loaded are named there too,
so that none is switched off. All options are those of `vllm serve`; --prm RECIPE, --runner generate or a --task of your
own take the place of --task embed."""
EXAMPLES = """examples:
  vllm-prm serve peiyi9979/math-shepherd-mistral-7b-prm
  vllm-prm serve ./my-prm --prm my-recipe.json --port 9000
  vllm-prm serve Qwen/Qwen2.5-7B-Instruct --prm my-judge.json --runner generate     generates text as well

`vllm serve --help=all` lists every option."""

# Groups whose plugins vLLM loads unless VLLM_PLUGINS leaves them out. Endpoint plugins are loaded only if it names them
# (vllm/plugins/__init__.py, vllm/plugins/endpoint_plugins), so those of others stay as they are: off.
GROUPS = tuple(f"vllm.{kind}_plugins" for kind in ("general", "io_processor", "platform", "stat_logger"))
# With one of these the line says itself what kind of server it is.
KINDS = ("--task", "--prm", "--runner", "--convert")
PORT = "8000"  # vLLM's default


def add_parser(commands: Any) -> None:
    parser = options.add_command(commands, "serve", HELP, ABOUT, EXAMPLES, run)
    parser.usage = "vllm-prm serve MODEL [any option of vllm serve]"
    parser.set_defaults(words=[])  # cli.parsed puts them there: argparse would look for options of ours among them


def run(args: argparse.Namespace) -> int:
    """Becomes vLLM's server, so it does not return. Raises UnsupportedError without a vLLM that we know."""
    from vllm_prm.engine import compat

    compat.check_vllm()
    if not args.words:
        args.parser.error("which model? give its name or folder")
    words = served(args.words)
    plugins = allowed(os.environ)
    print(f"vllm-prm: VLLM_PLUGINS={plugins} vllm serve {shlex.join(words)}", file=sys.stderr)
    print(f"vllm-prm: when it is ready, http://localhost:{port(words)}/prm is a page to try it on", file=sys.stderr)
    sys.stderr.flush()
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *words]
    try:
        os.execve(sys.executable, command, {**os.environ, "VLLM_PLUGINS": plugins})
    except OSError as error:
        raise UnsupportedError(f"{shlex.join(command)} cannot be started: {error}") from error


def served(words: Sequence[str]) -> list[str]:
    """The words for `vllm serve`, with --task embed unless they say themselves what kind of server it is to be."""
    says = any(word.partition("=")[0].replace("_", "-") in KINDS for word in words)
    return [*words] if says else [*words, "--task", "embed"]


def allowed(environment: Mapping[str, str]) -> str:
    """VLLM_PLUGINS: ours beside all that vLLM would load without it, or beside those that it names already."""
    named = environment.get("VLLM_PLUGINS")
    if named is not None:
        names = [name for name in named.split(",") if name]
    else:
        names = sorted({point.name for group in GROUPS for point in entry_points(group=group)})
    return ",".join(dict.fromkeys(["prm", *names]))


def port(words: Sequence[str]) -> str:
    """Where the server will listen."""
    found = PORT
    for word, value in zip(words, [*words[1:], ""], strict=True):
        name, sign, inline = word.partition("=")
        if name == "--port":
            found = inline if sign else value
    return found
