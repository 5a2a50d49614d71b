"""Engines for the tests: real vLLM on the CPU, one at a time, one per test module."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from left_out import pytest_terminal_summary  # noqa: F401 - a hook: pytest looks for it here

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Some virtual machines report AMX and end a process that uses it, as oneDNN does in bfloat16: "Illegal instruction".
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
# On GPUs, Triton multiplies float32 with 10 bits of mantissa by default, and vLLM's attention in float32 is Triton's.
os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")

settings.register_profile("default", max_examples=1000, deadline=None)  # a loaded machine is no fault of the code
settings.register_profile("many", max_examples=100_000, deadline=None)
settings.load_profile("default")

ROOT = Path(__file__).parents[1]
TINY_PRM = str(ROOT / "examples" / "tiny-prm")


# vLLM collects garbage eight times in the life of an engine, and freezes and unfreezes the heap meanwhile. Going
# through all that was imported takes most of a small engine's time; so it is frozen here, once, and stays so.
_freeze, _unfreeze = gc.freeze, gc.unfreeze
gc.freeze = gc.unfreeze = lambda: None


@cache
def _freeze_imports() -> None:
    gc.collect()
    _freeze()


def pytest_sessionfinish() -> None:
    _unfreeze()  # else libraries tell, when Python ends, of all that was leaked


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """checkpoint("mistral") -> folder of that random model; built once."""
    import checkpoints

    built: dict[str, str] = {}

    def folder(name: str, called: str | None = None) -> str:
        key = called or name
        if key not in built:
            path = tmp_path_factory.mktemp("checkpoints") / key
            built[key] = checkpoints.save(path, getattr(checkpoints, name))
        return built[key]

    return folder


@pytest.fixture(scope="session")
def tiny_prm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The tiny PRM on one `vllm-prm serve`, for every test that only asks it."""
    from server import serving

    log = tmp_path_factory.mktemp("log") / "tiny_prm.log"
    with serving(log, TINY_PRM, "--dtype", "float32", "--enforce-eager", program="vllm-prm") as url:
        yield url


@contextmanager
def running(model: str, **options: Any) -> Iterator[Any]:
    """An in-process engine, and nothing of it left behind."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.platforms import current_platform

    defaults: dict[str, Any] = {"runner": "pooling", "convert": "embed", "dtype": "float32", "max_model_len": 8192}
    if current_platform.is_cuda():  # as small as on a CPU: the memory of an engine before may not be free yet
        defaults |= {"kv_cache_memory_bytes": 1 << 30, "gpu_memory_utilization": 0.2}
    llm = None
    try:
        llm = LLM(model, **{**defaults, "enforce_eager": True, **options})
        yield llm
    finally:
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()
        _freeze_imports()


def step_config(**more: Any) -> Any:
    """vLLM's own pooler config for math-shepherd's tokens."""
    from checkpoints import MINUS, PLUS, TAG
    from vllm.config import PoolerConfig

    return PoolerConfig(**{"pooling_type": "STEP", "step_tag_id": TAG, "returned_token_ids": [PLUS, MINUS], **more})


@pytest.fixture
def vllm_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """What vLLM's loggers say.

    vLLM keeps it from the root logger, where pytest listens, and takes others' handlers off its loggers when a process
    makes its first engine.
    """
    to_handlers = logging.Logger.callHandlers

    def and_here(logger: logging.Logger, record: logging.LogRecord) -> None:
        to_handlers(logger, record)
        if logger.name.startswith("vllm") and record not in caplog.records:
            caplog.handler.handle(record)

    monkeypatch.setattr(logging.Logger, "callHandlers", and_here)
    logger = logging.getLogger("vllm")
    level = logger.level  # VLLM_LOGGING_LEVEL's, which another test's engine may have lowered
    logger.setLevel(logging.INFO)
    yield caplog
    logger.setLevel(level)


def hears_interrupts() -> None:
    """`preexec_fn` of a child to be interrupted: a shell's background jobs, and so this run, may ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
