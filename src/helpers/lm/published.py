"""Checkpoints in the form Hugging Face publishes: a folder with ``config.json`` and tensors.

Published checkpoints keep queries, keys and values apart, and gate and up. Here each group is one
matrix, as in a serving engine: fewer, larger products, and one read of the input. The rows are the
same, so loading only stacks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch

from helpers.lm.checkpoint import (
    check_dtype,
    check_sizes,
    compare_shapes,
    filled_model,
    open_tensors,
    read_json,
    stored_shape,
)
from helpers.lm.config import ModelConfig
from helpers.lm.model import Transformer
from helpers.lm.published_config import read_config


def load_pretrained(
    folder: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Transformer:
    """Read a published checkpoint of the Llama, Mistral, Qwen2 or SmolLM family.

    Parameters
    ----------
    folder : path
        With ``config.json`` and the weights in ``model.safetensors``, or in shards listed by
        ``model.safetensors.index.json``. Nothing is downloaded.
    dtype, device
        As in :func:`load`.

    Returns
    -------
    Transformer

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        The model is of another kind (the message names the field of ``config.json``, its value
        and what is allowed), or tensors are missing, left over, of another shape, or cut short.

    Notes
    -----
    The rotary tables are computed in float32 whatever ``dtype`` is, as in ``transformers``.
    """
    check_dtype(dtype)
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder: there is no folder {folder}; download the checkpoint first, for example with "
            "`hf download NAME --local-dir FOLDER`"
        )
    config = read_config(folder / "config.json")
    with ExitStack() as files:
        found = {}  # their name -> the open file that holds it
        for path in _shards(folder):
            file = open_tensors(path, files)
            for name in file.keys():  # noqa: SIM118  (not a dict)
                if name in found:
                    raise ValueError(f"{path}: {name} is in another shard too")
                found[name] = file
        check_sizes(folder, config, len(found))
        parts = published_parts(config)
        shapes = {name: stored_shape(folder, file, name) for name, file in found.items()}
        wanted = {name: shape for pieces in parts.values() for name, shape in pieces.items()}
        # old checkpoints also hold the rotary frequencies, which the configuration decides
        shapes = {name: s for name, s in shapes.items() if not name.endswith("rotary_emb.inv_freq")}
        if config.tied_embeddings and "lm_head.weight" in shapes:  # a copy: allowed if it is one
            _check_copy(folder, found["lm_head.weight"], found.get("model.embed_tokens.weight"))
            del shapes["lm_head.weight"]
        compare_shapes(folder, shapes, wanted)
        weights = {}
        for name, pieces in parts.items():
            # [rows of q, C], [rows of k, C], [rows of v, C] -> [rows of all, C]
            rows = [found[piece].get_tensor(piece).to(device, dtype) for piece in pieces]
            weights[name] = torch.cat(rows)
    return filled_model(config, weights, dtype, device)


def published_parts(config: ModelConfig) -> dict[str, dict[str, list[int]]]:
    """Our tensor -> the published tensors whose rows it stacks, in order, with their shapes."""
    c, f = config.d_model, config.ffn
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    parts = {
        "embedding.weight": {"model.embed_tokens.weight": [config.vocab, c]},
        "norm.weight": {"model.norm.weight": [c]},
    }
    if not config.tied_embeddings:
        parts["head.weight"] = {"lm_head.weight": [config.vocab, c]}
    for layer in range(config.layers):
        ours, theirs = f"layers.{layer}", f"model.layers.{layer}"
        attention, ffn = f"{theirs}.self_attn", f"{theirs}.mlp"
        qkv = {"q": q, "k": kv, "v": kv}
        parts |= {
            f"{ours}.attention_norm.weight": {f"{theirs}.input_layernorm.weight": [c]},
            f"{ours}.attention.qkv.weight": {
                f"{attention}.{which}_proj.weight": [rows, c] for which, rows in qkv.items()
            },
            f"{ours}.attention.out.weight": {f"{attention}.o_proj.weight": [c, q]},
            f"{ours}.ffn_norm.weight": {f"{theirs}.post_attention_layernorm.weight": [c]},
            f"{ours}.ffn.gate_up.weight": {
                f"{ffn}.gate_proj.weight": [f, c],
                f"{ffn}.up_proj.weight": [f, c],
            },
            f"{ours}.ffn.down.weight": {f"{ffn}.down_proj.weight": [c, f]},
        }
        if config.qkv_bias:
            parts[f"{ours}.attention.qkv.bias"] = {
                f"{attention}.{which}_proj.bias": [rows] for which, rows in qkv.items()
            }
    return parts


def _shards(folder: Path) -> list[Path]:
    """The files that hold the weights."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if index.is_file():
        listed = read_json(index).get("weight_map")
        if not isinstance(listed, Mapping) or not listed:
            raise ValueError(f"{index}: weight_map is missing or empty")
        for name in listed.values():
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"{index}: {name!r} is not the name of a file in its folder")
        return [folder / name for name in sorted(set(listed.values()))]
    if single.is_file():
        return [single]
    other = sorted(path.name for path in folder.glob("*.bin"))
    also = f"; {other[0]} is in a form that can run code when read" if other else ""
    raise FileNotFoundError(f"{folder}: needs {single.name} or {index.name}{also}")


def _check_copy(folder: Path, file, embedding_file) -> None:
    head = file.get_tensor("lm_head.weight")
    if embedding_file is None or not torch.equal(
        head, embedding_file.get_tensor("model.embed_tokens.weight")
    ):
        raise ValueError(
            f"{folder}: tie_word_embeddings is true, but lm_head.weight is not a copy of "
            "model.embed_tokens.weight"
        )
