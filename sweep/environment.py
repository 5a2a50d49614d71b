"""The environment variables under which every engine of the sweep runs; set before vLLM is imported."""

from __future__ import annotations

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process, where hooks reach its model
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; the smallest whole number, and enough for prompts of 256 tokens
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}
