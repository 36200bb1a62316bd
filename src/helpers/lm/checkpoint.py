"""What both kinds of checkpoint need: open safetensors files, compare shapes, fill a module.

A file can state any sizes. What it holds is compared with them by arithmetic, before a module is
built or memory asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from helpers.lm.config import ModelConfig
from helpers.lm.model import Transformer

#: what a weight may be stored as, in the names of the safetensors format
STORED = ("F64", "F32", "F16", "BF16")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
#: largest rotary tables that a file may ask for; heads of 128 reach 4 million tokens
LARGEST_TABLES_BYTES = 4 * 2**30


def check_dtype(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r}; allowed are {', '.join(map(str, DTYPES))}")


def read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise FileNotFoundError(f"{path}: is a folder; it must be a file") from None
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8; too deeply nested
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds a {type(values).__name__}; it must be an object")
    return values


def open_tensors(path: Path, files: ExitStack):
    """Open a safetensors file until ``files`` closes; the format checks that nothing is cut off."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        needs = "checkpoints need the package safetensors: pip install safetensors"
        raise ImportError(needs) from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        return files.enter_context(safe_open(path, framework="pt"))
    except SafetensorError as error:
        raise ValueError(f"{path}: cut short, or not a safetensors file ({error})") from None


def stored_shape(path: Path, file, name: str) -> list[int]:
    stored = file.get_slice(name)
    if stored.get_dtype() not in STORED:
        raise ValueError(
            f"{path}: {name} is stored as {stored.get_dtype()}; allowed are {', '.join(STORED)} "
            "(a quantised checkpoint cannot be read)"
        )
    return list(stored.get_shape())


def check_sizes(path: Path, config: ModelConfig, tensors: int) -> None:
    """Refuse sizes that would cost much before the shapes can be compared."""
    if config.layers > tensors:
        raise ValueError(
            f"{path}: does not fit its configuration: its {tensors} tensors are too few for "
            f"{config.layers} layers"
        )
    if 2 * config.context * config.head_dim * torch.float32.itemsize > LARGEST_TABLES_BYTES:
        raise ValueError(
            f"{path}: context is {config.context}; with head_dim {config.head_dim} the rotary "
            f"tables would be larger than {LARGEST_TABLES_BYTES // 2**30} GiB"
        )


def weight_shapes(config: ModelConfig) -> dict[str, list[int]]:
    """What a file for a model of these sizes holds: a tied head is not stored twice."""
    c, f, heads = config.d_model, config.ffn, config.heads * config.head_dim
    qkv = heads + 2 * config.kv_heads * config.head_dim  # rows
    shapes = {"embedding.weight": [config.vocab, c]}
    for layer in range(config.layers):
        at = f"layers.{layer}"
        shapes[f"{at}.attention_norm.weight"] = [c]
        shapes[f"{at}.attention.qkv.weight"] = [qkv, c]
        if config.qkv_bias:
            shapes[f"{at}.attention.qkv.bias"] = [qkv]
        shapes[f"{at}.attention.out.weight"] = [c, heads]
        shapes[f"{at}.ffn_norm.weight"] = [c]
        shapes[f"{at}.ffn.gate_up.weight"] = [2 * f, c]
        shapes[f"{at}.ffn.down.weight"] = [c, f]
    shapes["norm.weight"] = [c]
    if not config.tied_embeddings:
        shapes["head.weight"] = [config.vocab, c]
    return shapes


def compare_shapes(path: Path, found: Mapping, wanted: Mapping) -> None:
    """Refuse tensors that are missing, left over or of another shape; name the first few."""
    problems = {
        "lacks": [f"{name} {wanted[name]}" for name in wanted if name not in found],
        "has no use for": [f"{name} {found[name]}" for name in sorted(found) if name not in wanted],
        "has another shape for": [
            f"{name} {found[name]} (allowed is {wanted[name]})"
            for name in wanted
            if name in found and found[name] != wanted[name]
        ],
    }
    said = []
    for what, names in problems.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            said.append(f"{what} {', '.join(names[:3])}{more}")
    if said:
        raise ValueError(f"{path}: does not fit its configuration: it {'; it '.join(said)}")


def filled_model(config: ModelConfig, weights: dict[str, Tensor], dtype, device) -> Transformer:
    with torch.device("meta"):  # the module without memory: the weights are put in place
        model = Transformer(config)
    model.load_state_dict(weights, strict=False, assign=True)
    if config.tied_embeddings:
        model.head.weight = model.embedding.weight
    # the rotary tables depend on the head size and the context only, not on the large sizes
    small = Transformer(replace(config, layers=1, d_model=1, ffn=1, vocab=1))
    model.cos = small.cos.to(device, dtype)
    model.signed_sin = small.signed_sin.to(device, dtype)
    return model.eval().requires_grad_(False)
