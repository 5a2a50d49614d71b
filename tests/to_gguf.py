"""A Llama checkpoint with a sentencepiece vocabulary as one GGUF file in float32, for llama.cpp.

Run by a Python that has the PyPI package gguf: python to_gguf.py FOLDER FILE.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

# llama.cpp's names of a Llama's weights: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def weights(path: Path) -> dict[str, np.ndarray]:
    """https://github.com/huggingface/safetensors#format"""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32"
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(content[start + begin : start + end], np.float32).reshape(entry["shape"])
    return tensors


def renamed(name: str) -> str:
    parts = name.removesuffix(".weight").removeprefix("model.layers.").split(".", 1)
    if parts[0].isdigit():
        return f"blk.{parts[0]}.{NAMES[parts[1]]}.weight"
    return f"{NAMES[name.removesuffix('.weight')]}.weight"


def interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head in the order of llama.cpp's rotary embedding, which turns neighbours."""
    return matrix.reshape(heads, 2, -1, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def write_vocabulary(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    special = {token["content"] for token in tokenizer["added_tokens"]}
    rank = {"".join(pair): number for number, pair in reversed([*enumerate(merges)])}
    pieces = {id_: piece for piece, id_ in vocabulary.items()}
    kinds = gguf.TokenType
    types, scores = [], []
    for id_ in range(size):
        piece = pieces.get(id_)
        is_byte = piece is not None and piece.startswith("<0x")
        control = kinds.UNKNOWN if piece == "<unk>" else kinds.CONTROL
        kind = kinds.UNUSED if piece is None else control if piece in special else kinds.BYTE if is_byte else None
        types.append(kinds.NORMAL if kind is None else kind)
        scores.append(-float(rank.get(piece or "", len(merges))))  # merged earlier: a higher score
    writer.add_tokenizer_model("llama")
    writer.add_token_list([pieces.get(id_, f"<unused {id_}>").encode() for id_ in range(size)])
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


def convert(folder: Path, file: Path) -> None:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    write_vocabulary(writer, folder, config["vocab_size"])
    for name, tensor in weights(folder / "model.safetensors").items():
        for part, count in (("q_proj", heads), ("k_proj", key_heads)):
            if part in name:
                tensor = interleaved(tensor, count)
        writer.add_tensor(renamed(name), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
