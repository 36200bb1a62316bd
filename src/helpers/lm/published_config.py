"""The sizes in a published ``config.json``, translated to ours or refused.

What the module cannot compute is refused by name: a model that loads but attends differently would
write fluent nonsense.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from helpers.lm.checkpoint import read_json
from helpers.lm.config import ModelConfig, RopeScaling

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
    given = read_json(path)
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
