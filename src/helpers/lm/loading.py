"""Checkpoints: the book's own three, and real ones in the form Hugging Face publishes.

A checkpoint is a list of named tensors and the sizes they belong to. The book's own hold both in
one safetensors file. A published one is a folder: ``config.json`` with the sizes under the names of
the ``transformers`` library, and the tensors in one file or in several (*shards*) with an index.

Published checkpoints keep queries, keys and values apart, and gate and up. Here each group is one
matrix, as in a serving engine: fewer, larger products, and one read of the input. The rows are the
same, so loading only stacks them.

What this module cannot compute it refuses by name: a model that loads but attends differently
would write fluent nonsense.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from helpers.lm.config import ModelConfig, RopeScaling
from helpers.lm.model import Transformer

ASSETS = Path(__file__).parent / "assets"
#: the checkpoints that ship with the book
SHIPPED = ("target", "draft", "stranger")
#: what a weight may be stored as, in the names of the safetensors format
STORED = ("F64", "F32", "F16", "BF16")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# ---- the book's own checkpoints ------------------------------------------------------------------


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
    from safetensors.torch import save_file

    path = _checkpoint_path(path)
    tensors = {name: value.detach() for name, value in model.state_dict().items()}
    if model.config.tied_embeddings:
        del tensors["head.weight"]  # it is the embedding
    if set(tensors) != set(_shapes(_on_meta(model.config))):
        raise ValueError("model: its linears were quantised; save it before, quantise after load")
    stored = {name: value.to("cpu", torch.bfloat16).contiguous() for name, value in tensors.items()}
    part = path.with_suffix(".part")
    save_file(stored, part, metadata={"config": json.dumps(model.config.to_dict())})
    part.replace(path)
    if card is not None:
        text = json.dumps(dict(card), indent=1, ensure_ascii=False) + "\n"
        path.with_suffix(".json").write_text(text, encoding="utf-8")
    return path


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
    _check_dtype(dtype)
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
        path = _checkpoint_path(name_or_path)
    with ExitStack() as files:
        file = _open(path, files)
        config = _own_config(path, file.metadata() or {})
        model = _on_meta(config)
        wanted = _shapes(model)
        _compare(path, {name: _shape(path, file, name) for name in file.keys()}, wanted)  # noqa: SIM118
        # a copy: what the file hands out is the file itself, mapped into memory
        weights = {name: file.get_tensor(name).to(device, dtype, copy=True) for name in wanted}
    return _filled(model, weights, dtype, device)


def _own_config(path: Path, header: Mapping[str, str]) -> ModelConfig:
    if "config" not in header:
        raise ValueError(
            f"{path}: not a checkpoint of this book, for its header has no 'config'; "
            "load_pretrained reads folders from elsewhere"
        )
    try:
        return ModelConfig.from_dict(json.loads(header["config"]))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: 'config' in its header cannot be used: {error}") from None


# ---- published checkpoints -----------------------------------------------------------------------

#: ``model_type`` of the families that are this module's transformer: does q, k, v have a bias?
FAMILIES = {"llama": False, "mistral": False, "qwen2": True}  # SmolLM calls itself llama
#: fields that must have one of these values, where they are given at all
FIXED = {
    "hidden_act": ("silu", "swish"),  # two names of one function
    "attention_bias": (False, None),  # in llama it also means a bias on the output projection
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1, None),
    "rope_interleaved": (False, None),
    "quantization_config": (None,),
    "is_encoder_decoder": (False, None),
}
#: ours from theirs
RENAMED = {
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
}


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
    _check_dtype(dtype)
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder: there is no folder {folder}; download the checkpoint first, for example with "
            "`hf download NAME --local-dir FOLDER`"
        )
    config = read_config(folder / "config.json")
    model = _on_meta(config)
    parts = _published_parts(config)
    with ExitStack() as files:
        found = {}  # their name -> the open file that holds it
        for path in _shards(folder):
            file = _open(path, files)
            for name in file.keys():  # noqa: SIM118  (not a dict)
                if name in found:
                    raise ValueError(f"{path}: {name} is in another shard too")
                found[name] = file
        shapes = {name: _shape(folder, file, name) for name, file in found.items()}
        wanted = {name: shape for pieces in parts.values() for name, shape in pieces.items()}
        # old checkpoints also hold the rotary frequencies, which the configuration decides
        shapes = {name: s for name, s in shapes.items() if not name.endswith("rotary_emb.inv_freq")}
        if config.tied_embeddings and "lm_head.weight" in shapes:  # a copy: allowed if it is one
            _check_copy(folder, found["lm_head.weight"], found.get("model.embed_tokens.weight"))
            del shapes["lm_head.weight"]
        _compare(folder, shapes, wanted)
        weights = {}
        for name, pieces in parts.items():
            # [rows of q, C], [rows of k, C], [rows of v, C] -> [rows of all, C]
            rows = [found[piece].get_tensor(piece).to(device, dtype) for piece in pieces]
            weights[name] = torch.cat(rows)
    return _filled(model, weights, dtype, device)


def read_config(path: str | Path) -> ModelConfig:
    """The sizes in a published ``config.json``, if it describes what this module computes.

    Parameters
    ----------
    path : path

    Returns
    -------
    ModelConfig

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`load_pretrained`.
    """
    path = Path(path)
    given = _read_json(path)
    try:
        return _translate(given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _translate(given: Mapping) -> ModelConfig:
    family = given.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"model_type is {family!r}; allowed are {', '.join(FAMILIES)}")
    for field, allowed in FIXED.items():
        if field in given and given[field] not in allowed:
            says = " or ".join(json.dumps(value) for value in allowed)
            raise ValueError(f"{field} is {json.dumps(given[field])}; allowed is {says}")
    if missing := [theirs for theirs in RENAMED.values() if given.get(theirs) is None]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for field in (*RENAMED.values(), "num_key_value_heads", "head_dim", "sliding_window"):
        value = given.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{field} is {json.dumps(value)}; it must be a whole number")
    sizes = {ours: given[theirs] for ours, theirs in RENAMED.items()}
    _check_window(given, family)
    theta, scaling = _rotary(given)
    kv_heads = given.get("num_key_value_heads")
    if kv_heads is None:
        if family != "llama":
            raise ValueError("lacks num_key_value_heads")
        kv_heads = sizes["heads"]  # the first Llama models: as many as query heads
    head_dim = given.get("head_dim")
    if head_dim is None:
        if sizes["d_model"] % sizes["heads"]:
            raise ValueError(
                f"num_attention_heads is {sizes['heads']}; without head_dim it must divide "
                f"hidden_size ({sizes['d_model']})"
            )
        head_dim = sizes["d_model"] // sizes["heads"]
    return ModelConfig(
        **sizes,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=given.get("rms_norm_eps", 1e-6),
        tied_embeddings=bool(given.get("tie_word_embeddings", False)),
        qkv_bias=FAMILIES[family],
    )


def _check_window(given: Mapping, family: str) -> None:
    """Refuse a sliding window that some layer would use within the context.

    Qwen2 states a width and switches it off in another field; newer files list each layer's kind.
    """
    width = given.get("sliding_window")
    if width is None or (family == "qwen2" and not given.get("use_sliding_window", False)):
        width = float("inf")
    if family == "llama" or width >= given["max_position_embeddings"]:
        return
    kinds = given.get("layer_types")
    if kinds is None and family == "qwen2":  # the window starts above max_window_layers
        start = given.get("max_window_layers", 28)
        count = given["num_hidden_layers"]
        kinds = ["full_attention" if at < start else "sliding_attention" for at in range(count)]
    if kinds is not None and set(kinds) == {"full_attention"}:
        return
    raise ValueError(
        f"sliding_window is {width}; allowed is null, or one not shorter than "
        f"max_position_embeddings ({given['max_position_embeddings']})"
    )


def _rotary(given: Mapping) -> tuple[float, RopeScaling | None]:
    """Base and stretching of the rotary embedding, from either style of file.

    Older files have ``rope_theta`` and, if stretched, ``rope_scaling``; newer ones hold both in
    ``rope_parameters``.
    """
    newer = given.get("rope_parameters") or {}
    field = "rope_parameters" if newer else "rope_scaling"
    rope = newer or given.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ValueError(f"{field} is {rope!r}; it must be an object or null")
    theta = newer.get("rope_theta", given.get("rope_theta", 10_000.0))
    kind = rope.get("rope_type", rope.get("type", "default" if "factor" not in rope else None))
    if newer.get("partial_rotary_factor", 1) != 1:
        raise ValueError(
            f"{field}.partial_rotary_factor is {rope['partial_rotary_factor']}; allowed is 1"
        )
    if kind == "default" and not any(isinstance(value, Mapping) for value in rope.values()):
        return theta, None
    if kind != "llama3":
        raise ValueError(
            f"{field} is {json.dumps(dict(rope))}; allowed are rope_type 'default' and 'llama3', "
            "the same for all layers"
        )
    names = {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_context": "original_max_position_embeddings",
    }
    if missing := [theirs for theirs in names.values() if theirs not in rope]:
        raise ValueError(f"{field} lacks {', '.join(missing)}")
    return theta, RopeScaling(**{ours: rope[theirs] for ours, theirs in names.items()})


def _published_parts(config: ModelConfig) -> dict[str, dict[str, list[int]]]:
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
        listed = _read_json(index).get("weight_map")
        if not isinstance(listed, Mapping) or not listed:
            raise ValueError(f"{index}: weight_map is missing or empty")
        names = sorted(set(listed.values()))
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"{index}: {name!r} is not the name of a file in its folder")
        return [folder / name for name in names]
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


# ---- both ----------------------------------------------------------------------------------------


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r}; allowed are {', '.join(map(str, DTYPES))}")


def _checkpoint_path(path: str | Path) -> Path:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path: {path!r} is a {type(path).__name__}; allowed are str and Path")
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: {path} does not end in .safetensors")
    return path


def _read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds a {type(values).__name__}; it must be an object")
    return values


def _open(path: Path, files: ExitStack):
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


def _shape(path: Path, file, name: str) -> list[int]:
    stored = file.get_slice(name)
    if stored.get_dtype() not in STORED:
        raise ValueError(
            f"{path}: {name} is stored as {stored.get_dtype()}; allowed are {', '.join(STORED)} "
            "(a quantised checkpoint cannot be read)"
        )
    return list(stored.get_shape())


def _shapes(model: Transformer) -> dict[str, list[int]]:
    """What a file for this model holds: a tied head is not stored twice."""
    # named_parameters names a shared tensor once, by the place where it comes first
    return {name: list(value.shape) for name, value in model.named_parameters()}


def _compare(path: Path, found: Mapping, wanted: Mapping) -> None:
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


def _on_meta(config: ModelConfig) -> Transformer:
    """The module without memory behind it: the file's tensors will be put in place."""
    with torch.device("meta"):
        return Transformer(config)


def _filled(model: Transformer, weights: dict[str, Tensor], dtype, device) -> Transformer:
    model.load_state_dict(weights, strict=False, assign=True)
    if model.config.tied_embeddings:
        model.head.weight = model.embedding.weight
    # the rotary tables depend on the head size and the context only, not on the large sizes
    small = Transformer(replace(model.config, layers=1, d_model=1, ffn=1, vocab=1))
    model.cos, model.sin = small.cos.to(device, dtype), small.sin.to(device, dtype)
    return model.eval().requires_grad_(False)
