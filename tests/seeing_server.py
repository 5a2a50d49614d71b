"""`vllm`, that can run `seeing`'s Qwen2.5-VL: `python tests/seeing_server.py serve FOLDER ...`.

A process that vLLM starts imports this file again, and so can run it too.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `sweep`

import pytest  # noqa: E402
import seeing  # noqa: E402

OPTIONS = seeing.let_vllm_see(pytest.MonkeyPatch())

if __name__ == "__main__":
    from vllm.entrypoints.cli.main import main

    sys.argv += [f"--no-{name.replace('_', '-')}" for name in OPTIONS]
    main()
