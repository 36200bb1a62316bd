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
#: fields that are true or false; absent or null means false
SWITCHES = ("tie_word_embeddings", "use_sliding_window")
#: fields that are whole numbers, 1 or more, where they are given; 0 is allowed for the last
COUNTS = ("num_key_value_heads", "head_dim", "sliding_window", "max_window_layers")
#: what transformers takes for a file of the family that does not state ``sliding_window``
DEFAULT_WINDOW = 4096
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
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"model_type is {family!r}; allowed are {', '.join(FAMILIES)}")
    for field, allowed in FIXED.items():
        if field in given and given[field] not in allowed:
            says = " or ".join(json.dumps(value) for value in allowed)
            raise ValueError(f"{field} is {json.dumps(given[field])}; allowed is {says}")
    if missing := [theirs for theirs in RENAMED.values() if given.get(theirs) is None]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for field in (*RENAMED.values(), *COUNTS):
        value, least = given.get(field), 0 if field == "max_window_layers" else 1
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"{field} is {json.dumps(value)}; it must be a whole number, {least} or more"
            )
    for field in SWITCHES:
        if not isinstance(given.get(field), (bool, type(None))):
            raise ValueError(f"{field} is {json.dumps(given[field])}; it must be true or false")
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
        tied_embeddings=bool(given.get("tie_word_embeddings")),
        qkv_bias=FAMILIES[family],
    )


def _check_window(given: Mapping, family: str) -> None:
    """Refuse a sliding window that some layer would use within the context.

    A file that does not state the width has the family's default; null means none. Qwen2 states a
    width and switches it off in another field; newer files list each layer's kind.
    """
    width = given.get("sliding_window", DEFAULT_WINDOW)
    on = given.get("use_sliding_window") if family == "qwen2" else family == "mistral"
    if not on or width is None or width >= given["max_position_embeddings"]:
        return
    kinds = given.get("layer_types")
    if kinds is None and family == "qwen2":  # the window starts above max_window_layers
        start, count = given.get("max_window_layers", 28), given["num_hidden_layers"]
        if start is None:
            raise ValueError("max_window_layers is null; with a window it must be a number")
        if start >= count:
            return
    if isinstance(kinds, list) and kinds and all(kind == "full_attention" for kind in kinds):
        return
    stated = "" if "sliding_window" in given else " (not stated: the default)"
    raise ValueError(
        f"sliding_window is {width}{stated}; allowed is null, or one not shorter than "
        f"max_position_embeddings ({given['max_position_embeddings']})"
    )


def _rotary(given: Mapping) -> tuple[float, RopeScaling | None]:
    """Base and stretching of the rotary embedding, from either style of file.

    Older files have ``rope_theta`` and, if stretched, ``rope_scaling``; newer ones hold both in
    ``rope_parameters``. A file may have all of them, if they say the same.
    """
    theta = given.get("rope_theta", 10_000.0)
    said = {}  # field -> what it makes of the rotary embedding
    for field in ("rope_scaling", "rope_parameters"):
        rope = given.get(field)
        if not isinstance(rope, (Mapping, type(None))):
            raise ValueError(f"{field} is {rope!r}; it must be an object or null")
        if rope:
            said[field] = rope.get("rope_theta", theta), _stretching(field, rope)
    if not said:
        return theta, None
    found, *others = said.values()
    if others and others != [found]:
        raise ValueError(
            f"rope_scaling is {json.dumps(given['rope_scaling'])} and rope_parameters "
            f"{json.dumps(given['rope_parameters'])}; they must say the same"
        )
    if "rope_theta" in given and found[0] != theta:
        raise ValueError(
            f"rope_theta is {json.dumps(theta)} and inside {next(iter(said))} "
            f"{json.dumps(found[0])}; they must say the same"
        )
    return found


def _stretching(field: str, rope: Mapping) -> RopeScaling | None:
    """What one of the two objects says; None where nothing is stretched."""
    kind = rope.get("rope_type", rope.get("type", "default" if "factor" not in rope else None))
    if rope.get("partial_rotary_factor", 1) not in (1, None):
        raise ValueError(
            f"{field}.partial_rotary_factor is {rope['partial_rotary_factor']}; allowed is 1"
        )
    if kind == "default" and not any(isinstance(value, Mapping) for value in rope.values()):
        return None
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
    return RopeScaling(**{ours: rope[theirs] for ours, theirs in names.items()})
