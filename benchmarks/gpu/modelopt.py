"""A checkpoint in the format of NVIDIA's ModelOpt, FP8, with its output head left in bfloat16, as ModelOpt leaves it.

Format (vllm/model_executor/layers/quantization/modelopt.py): each quantised matrix is float8_e4m3fn, with two float32
scalars beside it, `weight_scale` and `input_scale`; config.json names the method and, in `ignore`, what is left out.
One weight scale serves all matrices: vLLM rounds matrices again that it fuses and that have different ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from gpu.checkpoints import llama, save_tokenizer, set_config

LARGEST = 448.0  # of float8_e4m3fn (torch.finfo)
QUANTISED = {
    "quant_method": "modelopt",
    "quant_algo": "FP8",
    "ignore": ["lm_head"],
    "producer": {"name": "modelopt", "version": "0.39.0"},
}


def save(folder: Path, calibration: list[int]) -> PreTrainedModel:
    """Write the checkpoint. Returns the same model in float32 with the same roundings, of weights and of activations.

    calibration: token ids; the scales of the matrices' inputs are those of the largest values on them.
    """
    torch.manual_seed(0)
    model = llama().to(torch.bfloat16).to(torch.float32).eval()  # the numbers that bfloat16 has, computed exactly
    largest_inputs = _largest_inputs(model, calibration)
    weight_scale = max(layer.weight.abs().max().item() for _, layer in _matrices(model)) / LARGEST
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    for name, layer in _matrices(model):
        input_scale = largest_inputs[name] / LARGEST
        tensors[f"{name}.weight"] = _to_fp8(layer.weight.data, weight_scale)
        tensors[f"{name}.weight_scale"] = torch.tensor(weight_scale)
        tensors[f"{name}.input_scale"] = torch.tensor(input_scale)
        layer.weight.data = tensors[f"{name}.weight"].float() * weight_scale
        layer.register_forward_pre_hook(_Rounding(input_scale))
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    set_config(folder, architectures=["LlamaForCausalLM"], dtype="bfloat16", quantization_config=QUANTISED)
    save_tokenizer(folder)
    return model


def without_activation_rounding(model: PreTrainedModel) -> PreTrainedModel:
    """For GPUs whose kernels keep activations in bfloat16: those before compute capability 8.9 (Ada)."""
    for _, layer in _matrices(model):
        layer._forward_pre_hooks.clear()
    return model


def _matrices(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Linear]]:
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and name not in QUANTISED["ignore"]:
            yield name, layer


def _largest_inputs(model: PreTrainedModel, ids: list[int]) -> dict[str, float]:
    """The largest absolute value that each matrix is multiplied with."""
    largest: dict[str, float] = {}

    def watch(name: str) -> Any:
        return lambda _, args: largest.update({name: args[0].abs().max().item()})

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in _matrices(model)]
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return largest


def _to_fp8(values: torch.Tensor, scale: float) -> torch.Tensor:
    return (values / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


class _Rounding:
    """A forward pre-hook: rounds what the matrix is multiplied with as the kernel does."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, _: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (_to_fp8(args[0], self.scale).float() * self.scale, *args[1:])
