"""What all layers of a model cache, from its record in the catalog or by hand.

Layers may differ: some keep every token, some a window, some nothing. A layer that reuses the cache
of another, or has a recurrent state instead, caches nothing that grows; that state, of a fixed size
per sequence, is not counted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.catalog import Model

from .kv_layer import LayerCache

__all__ = ["CacheLayout", "layout_of"]


@dataclass(frozen=True)
class CacheLayout:
    """The layers of a model, from the first to the last.

    Parameters
    ----------
    name : str
        For messages and tables.
    layers : sequence of LayerCache or None
        One for each layer; None caches nothing. Multiply and add tuples for a pattern.

    Raises
    ------
    TypeError
        If a layer is something else.
    ValueError
        If no layer caches anything.

    Examples
    --------
    >>> from helpers.formulas.kv_layer import LayerCache
    >>> near = LayerCache(heads=16, kv_heads=4, head_dim=256, window=1024)
    >>> far = LayerCache(heads=16, kv_heads=4, head_dim=256)
    >>> print(CacheLayout("five near, one far", 8 * (5 * (near,) + (far,))))
    five near, one far: 40 x GQA 16/4 x 256, window 1,024; 8 x GQA 16/4 x 256
    """

    name: str
    layers: tuple[LayerCache | None, ...]

    def __post_init__(self):
        if isinstance(self.layers, (str, LayerCache)) or not isinstance(self.layers, Iterable):
            raise TypeError(
                f"layers: {self.layers!r}; allowed is a sequence with a LayerCache or None for"
                " each layer"
            )
        object.__setattr__(self, "layers", tuple(self.layers))
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, LayerCache | None):
                raise TypeError(f"layers[{index}]: {layer!r}; allowed is a LayerCache or None")
        if not any(self.layers):
            raise ValueError(
                f"layers: none of {len(self.layers)} caches anything; allowed is at least one that"
                " does"
            )

    def kinds(self) -> dict[LayerCache, int]:
        """Each kind of layer that caches, and how many there are."""
        return dict(Counter(layer for layer in self.layers if layer is not None))

    def __str__(self) -> str:
        parts = [f"{count} x {layer}" for layer, count in self.kinds().items()]
        if empty := self.layers.count(None):
            parts.append(f"{empty} x no cache")
        return f"{self.name}: {'; '.join(parts)}"


def layout_of(model: Model, *, windowed: bool = True, decompressed: bool = False) -> CacheLayout:
    """Return the layout of a model of the catalog.

    Parameters
    ----------
    model : helpers.catalog.Model
        The record.
    windowed : bool
        False keeps every token, also those that the model's window hides: what a server does that
        knows no windows.
    decompressed : bool
        With multi-head latent attention: cache the keys and values of every head, as they are
        after decompression, and not the one vector that they come from.

    Raises
    ------
    TypeError
        If the model is no record of the catalog.
    ValueError
        If there is nothing to decompress.

    Examples
    --------
    >>> from helpers import catalog
    >>> print(layout_of(catalog.model("mistral-7b-v0.1")))
    Mistral 7B v0.1: 32 x GQA 32/8 x 128, window 4,096
    >>> print(layout_of(catalog.model("deepseek-v3"), decompressed=True))
    DeepSeek-V3: 61 x MHA 128/128 x 192 (values 128)
    """
    if not isinstance(model, Model):
        wanted = model if isinstance(model, str) else "llama-3.1-8b"
        raise TypeError(
            f"model: {model!r} is a {type(model).__name__}; allowed is a record of the catalog:"
            f" write catalog.model({wanted!r})"
        )
    for name, value in (("windowed", windowed), ("decompressed", decompressed)):
        if not isinstance(value, bool):
            raise ValueError(f"{name}: {value!r}; allowed is True or False")
    if decompressed and model.mla is None:
        raise ValueError(f"decompressed: True; allowed with MLA only, {model.id} has none")
    heads = model.heads
    if model.mla is None:
        shape = {"kv_heads": model.kv_heads, "head_dim": model.head_dim}
    elif decompressed:
        key = model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim
        shape = {"kv_heads": heads, "head_dim": key, "value_head_dim": model.mla.v_head_dim}
    else:
        shape = {"kv_rank": model.mla.kv_lora_rank, "rope_dim": model.mla.qk_rope_head_dim}
    layer = LayerCache(heads, **shape, window=model.window if windowed else None)
    return CacheLayout(model.name, model.layers * (layer,))
