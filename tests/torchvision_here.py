"""Makes torchvision importable, if it is there at all; to be imported before transformers, which looks for it.

vLLM's processor for InternVL's images needs torchvision's transforms, which are Python. Beside a torch for CPUs the
kernels of the registries' torchvision, built for CUDA, do not load, and then its import fails where it describes two of
them. So these two are declared, without being there.
"""

from __future__ import annotations

import importlib.util

import torch

_kernels: torch.library.Library | None = None  # declarations go when it goes


def _importable() -> bool:
    global _kernels
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # "operator torchvision::nms does not exist"
        _kernels = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _kernels.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True


TORCHVISION = _importable()
