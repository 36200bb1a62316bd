"""The sizes of a decoder-only transformer, checked once for all modules that ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from sys import float_info
from typing import Any


def check_positive(name: str, value: Any) -> None:
    """Refuse what is not a number above 0 that fits a float; True counts as no number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and 0 < value <= float_info.max):
        raise ValueError(f"{name} is {value!r}; it must be a positive number")


@dataclass(frozen=True)
class RopeScaling:
    """How Llama 3.1 stretches rotary embeddings to a longer context than it was trained on.

    Slow frequencies are divided by ``factor``, fast ones kept, those between blended
    (Llama Team, *The Llama 3 Herd of Models*, 2024, and its published configuration).
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self):
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_context"):
            check_positive(f"rope_scaling.{name}", getattr(self, name))
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"rope_scaling.high_freq_factor is {self.high_freq_factor}; it must be larger than "
                f"low_freq_factor ({self.low_freq_factor})"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of one model of the Llama family.

    Parameters
    ----------
    layers, d_model, heads, kv_heads, head_dim, ffn, vocab, context
        Counts. ``heads`` query heads share ``kv_heads`` heads of keys and values; ``head_dim`` need
        not be ``d_model / heads``; ``context`` is the longest sequence, in tokens.
    rope_theta : float
        Base of the rotary frequencies.
    norm_eps : float
        Added under the root of RMSNorm.
    tied_embeddings : bool
        Whether the output projection is the embedding table.
    qkv_bias : bool
        Whether the projections to queries, keys and values have a bias (Qwen2 has one).
    rope_scaling : RopeScaling, optional
        The stretching of Llama 3.1.

    Raises
    ------
    ValueError
        A size that is no positive whole number, heads that do not share evenly, an odd head size,
        a field of another type.

    Examples
    --------
    >>> config = ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                      ffn=64, vocab=97, context=64)
    >>> config.group  # query heads to one head of keys and values
    2
    >>> ModelConfig.from_catalog("llama-3.1-8b").kv_heads
    8
    """

    layers: int
    d_model: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tied_embeddings: bool = True
    qkv_bias: bool = False
    rope_scaling: RopeScaling | None = None

    def __post_init__(self):
        for name in SIZES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number, 1 or more")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads is {self.kv_heads}; it must divide heads ({self.heads}), so that each "
                "head of keys and values serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim is {self.head_dim}; it must be even, for rotary embedding turns pairs"
            )
        for name in ("rope_theta", "norm_eps"):
            check_positive(name, getattr(self, name))
        for name in ("tied_embeddings", "qkv_bias"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} is {value!r}; it must be True or False")
        if not isinstance(self.rope_scaling, (RopeScaling, type(None))):
            raise ValueError(
                f"rope_scaling is {self.rope_scaling!r}; it must be a RopeScaling or None"
            )

    @property
    def group(self) -> int:
        """Query heads that read one head of keys and values."""
        return self.heads // self.kv_heads

    @classmethod
    def from_catalog(cls, name: str) -> ModelConfig:
        """The sizes of a Llama-family model of the catalog.

        The catalog keeps what decides bytes and operations: the rotary base and the like come with
        a checkpoint (:func:`helpers.lm.loading.load_pretrained`).

        Raises
        ------
        ValueError
            The model exists but is of another family: it says which part differs.
        """
        from helpers import catalog

        model = catalog.model(name)
        wanted = {"norm": "rmsnorm", "positions": "rope", "mlp": "swiglu"}
        for field, value in wanted.items():
            if getattr(model, field) != value:
                raise ValueError(
                    f"{model.id} has {field} {getattr(model, field)!r}; this module builds "
                    f"{value!r} only"
                )
        for field in ("moe", "mla"):
            if getattr(model, field) is not None:
                raise ValueError(f"{model.id} has {field} layers; this module builds none")
        if getattr(model, "window", None) is not None:
            raise ValueError(f"{model.id} has a sliding window; this module attends to all")
        return cls(
            **{name: int(getattr(model, name)) for name in SIZES},
            tied_embeddings=model.tied_embeddings,
            qkv_bias=bool(getattr(model, "qkv_bias", False)),
        )

    def to_dict(self) -> dict:
        """Plain values, for a checkpoint's header."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> ModelConfig:
        """The inverse of :meth:`to_dict`; an unknown or missing field is an error that names it."""
        _check_fields("fields", values, {field.name for field in fields(cls)}, set(SIZES))
        scaling = values.get("rope_scaling")
        if isinstance(scaling, Mapping):
            known = {field.name for field in fields(RopeScaling)}
            _check_fields("fields of rope_scaling", scaling, known, known)
            values = {**values, "rope_scaling": RopeScaling(**scaling)}
        return cls(**values)


def _check_fields(what: str, values: Any, known: set[str], needed: set[str]) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} are {values!r}; they must be given by name")
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown {what} {unknown}; known are {sorted(known)}")
    if missing := sorted(needed - set(values)):
        raise ValueError(f"missing {what} {missing}")


#: the fields that are counts
SIZES = ("layers", "d_model", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context")
