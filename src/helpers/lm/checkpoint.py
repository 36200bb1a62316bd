"""What both kinds of checkpoint need: open safetensors files, compare shapes, fill a module."""

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


def check_dtype(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r}; allowed are {', '.join(map(str, DTYPES))}")


def read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except ValueError as error:  # of JSON or of UTF-8
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


def parameter_shapes(model: Transformer) -> dict[str, list[int]]:
    """What a file for this model holds: a tied head is not stored twice."""
    # named_parameters names a shared tensor once, by the place where it comes first
    return {name: list(value.shape) for name, value in model.named_parameters()}


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


def empty_model(config: ModelConfig) -> Transformer:
    """The module without memory behind it: the file's tensors will be put in place."""
    with torch.device("meta"):
        return Transformer(config)


def filled_model(model: Transformer, weights: dict[str, Tensor], dtype, device) -> Transformer:
    model.load_state_dict(weights, strict=False, assign=True)
    if model.config.tied_embeddings:
        model.head.weight = model.embedding.weight
    # the rotary tables depend on the head size and the context only, not on the large sizes
    small = Transformer(replace(model.config, layers=1, d_model=1, ffn=1, vocab=1))
    model.cos, model.sin = small.cos.to(device, dtype), small.sin.to(device, dtype)
    return model.eval().requires_grad_(False)
