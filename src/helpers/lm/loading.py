"""The book's own checkpoints: one safetensors file that holds weights and sizes.

Checkpoints published by others are read by :func:`load_pretrained`, see
:mod:`helpers.lm.published`.
"""

from __future__ import annotations

import json
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
    weight_shapes,
)
from helpers.lm.config import ModelConfig
from helpers.lm.model import Transformer
from helpers.lm.published import load_pretrained

__all__ = ["SHIPPED", "card", "load", "load_pretrained", "save"]

ASSETS = Path(__file__).parent / "assets"
#: the checkpoints that ship with the book
SHIPPED = ("target", "draft", "stranger")


def save(model: Transformer, path: str | Path, card: Mapping | None = None) -> Path:
    """Write a model as one safetensors file, weights in bfloat16, sizes in its header.

    Parameters
    ----------
    model : Transformer
    path : path
        Ends in ``.safetensors``. The file appears whole or not at all.
    card : mapping, optional
        What there is to say about the model; written beside it as ``.json``.

    Returns
    -------
    Path
        Of the checkpoint.

    Raises
    ------
    ValueError
        For a path of another kind, or a model whose linears were quantised: save it before.
    OSError
        The file cannot be written (no such folder, a full disk). A file that was there stays.

    Examples
    --------
    >>> import tempfile
    >>> config = ModelConfig(layers=1, d_model=8, heads=2, kv_heads=1, head_dim=4,
    ...                      ffn=16, vocab=20, context=32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(Transformer(config), f"{folder}/tiny.safetensors")
    ...     model = load(path, dtype=torch.float64)
    >>> model.config == config, model.dtype
    (True, torch.float64)
    """
    path = checkpoint_path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {path.parent} to write {path.name} to")
    tensors = {name: value.detach() for name, value in model.state_dict().items()}
    if model.config.tied_embeddings:
        del tensors["head.weight"]  # it is the embedding
    if set(tensors) != set(weight_shapes(model.config)):
        raise ValueError("model: its linears were quantised; save it before, quantise after load")
    stored = {name: value.to("cpu", torch.bfloat16).contiguous() for name, value in tensors.items()}
    _write(path, stored, {"config": json.dumps(model.config.to_dict())})
    if card is not None:
        text = json.dumps(dict(card), indent=1, ensure_ascii=False) + "\n"
        path.with_suffix(".json").write_text(text, encoding="utf-8")
    return path


def _write(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
    """Write beside the file, then move into its place: whoever reads sees the old one or the new.

    The file is opened here, so that it gets the rights that the user's other files have;
    safetensors itself would make it readable by the owner alone.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    part = path.with_suffix(".part")
    try:
        part.write_bytes(save(dict(tensors), metadata=dict(header)))
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path}: cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)  # what a failure left; after the move there is none


def load(
    name_or_path: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Transformer:
    """Read one of the book's checkpoints: by name, or a file that :func:`save` wrote.

    Parameters
    ----------
    name_or_path : {"target", "draft", "stranger"} or path
    dtype : torch.dtype
        What to compute in. The stored bfloat16 fits into float32 and float64 without loss.
    device : str or torch.device

    Returns
    -------
    Transformer
        Ready for inference; ``model.requires_grad_(True)`` before training on.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such checkpoint, or the file is cut short, or is not one of the book's, or
        its tensors do not fit its own configuration.
    """
    check_dtype(dtype)
    if isinstance(name_or_path, str) and name_or_path in SHIPPED:
        path = ASSETS / f"{name_or_path}.safetensors"
    elif isinstance(name_or_path, str) and not name_or_path.endswith(".safetensors"):
        if Path(name_or_path).is_dir():
            raise ValueError(
                f"name_or_path: {name_or_path} is a folder; "
                "helpers.lm.loading.load_pretrained reads folders"
            )
        raise ValueError(
            f"name_or_path: there is no checkpoint {name_or_path!r}; allowed are "
            f"{', '.join(SHIPPED)}, or a path that ends in .safetensors"
        )
    else:
        path = checkpoint_path(name_or_path)
    with ExitStack() as files:
        file = open_tensors(path, files)
        config = _own_config(path, file.metadata() or {})
        names = list(file.keys())
        check_sizes(path, config, len(names))
        wanted = weight_shapes(config)
        compare_shapes(path, {name: stored_shape(path, file, name) for name in names}, wanted)
        # a copy: what the file hands out is the file itself, mapped into memory
        weights = {name: file.get_tensor(name).to(device, dtype, copy=True) for name in wanted}
    return filled_model(config, weights, dtype, device)


def card(name: str) -> dict:
    """The model card of one of the book's checkpoints: data, steps, time, loss, samples.

    Parameters
    ----------
    name : {"target", "draft", "stranger"}

    Examples
    --------
    >>> card("draft")["recipe"]["teacher"]
    'target'
    """
    if name not in SHIPPED:
        raise ValueError(f"name: {name!r} has no card; allowed are {', '.join(SHIPPED)}")
    return read_json(ASSETS / f"{name}.json")


def _own_config(path: Path, header: Mapping[str, str]) -> ModelConfig:
    if "config" not in header:
        raise ValueError(
            f"{path}: not a checkpoint of this book, for its header has no 'config'; "
            "load_pretrained reads folders from elsewhere"
        )
    try:
        return ModelConfig.from_dict(json.loads(header["config"]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: 'config' in its header cannot be used: {error}") from None


def checkpoint_path(path: str | Path) -> Path:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path: {path!r} is a {type(path).__name__}; allowed are str and Path")
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: {path} does not end in .safetensors")
    return path
