"""Fewer heads of keys and values for a model that was trained with more.

The cache holds keys and values, so its bytes fall with their heads, not with the heads of queries.
Ainslie et al. (*GQA*, 2023, sections 2.1 and 2.2) begin the conversion by *mean-pooling*:
neighbouring heads of keys become one whose projection is their mean, values likewise. All heads
turn by the same rotary angles, so the pooled head's keys are the mean of the old keys, position by
position.

Where the pooled heads differ, the model computes something else and predicts worse. The paper then
goes on training it for a small part of its first training; that is left to the caller.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from helpers.lm.config import ModelConfig
from helpers.lm.model import Transformer


def pool_rows(rows: Tensor, config: ModelConfig, kv_heads: int) -> Tensor:
    """Average the key and value heads of a joint projection; its query heads stay.

    Parameters
    ----------
    rows : Tensor [(H + 2 Hkv) D, ...]
        Its weight [rows, C] or its bias [rows]: queries, then keys, then values.
    config : ModelConfig
        What the rows belong to: H = ``heads``, Hkv = ``kv_heads``, D = ``head_dim``.
    kv_heads : int
        Heads of keys to be left, and of values; divides Hkv.

    Returns
    -------
    Tensor [(H + 2 kv_heads) D, ...]
        In the dtype of ``rows``: torch adds up in float32 or better and rounds once.

    Examples
    --------
    Two heads of queries (filled with 1 and 2), of keys (3 and 5) and of values (20 and 30), two
    rows each; the mean of the keys is 4, that of the values 25:

    >>> config = ModelConfig(layers=1, d_model=1, heads=2, kv_heads=2, head_dim=2,
    ...                      ffn=1, vocab=2, context=2)
    >>> rows = torch.tensor([1.0, 1, 2, 2, 3, 3, 5, 5, 20, 20, 30, 30])
    >>> pool_rows(rows, config, kv_heads=1).tolist()
    [1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 25.0, 25.0]
    """
    size, queries = config.head_dim, config.heads * config.head_dim
    # [2 Hkv D, ...] -> [2 kv_heads, Hkv / kv_heads, D, ...]: as kv_heads divides Hkv, no group
    # reaches from the keys into the values
    groups = rows[queries:].unflatten(0, (2 * kv_heads, config.kv_heads // kv_heads, size))
    pooled = groups.mean(dim=1).flatten(0, 1)  # -> [2 kv_heads D, ...]
    return torch.cat((rows[:queries], pooled))


def fewer_kv_heads(model: Transformer, kv_heads: int) -> Transformer:
    """A copy of a model that keeps fewer heads of keys and values, each the mean of neighbours.

    Parameters
    ----------
    model : Transformer
        Of any dtype, on any device; it stays as it is and shares nothing with the copy.
    kv_heads : int
        Heads of keys to be left, and of values; must divide the model's own. 1 gives multi-query
        attention, the model's own number an equal model.

    Returns
    -------
    Transformer
        In the model's dtype, device and mode; everything but the key and value projections is
        equal.

    Raises
    ------
    ValueError
        If ``kv_heads`` is no whole number, or does not divide the model's own.
    TypeError
        If the model's projections are quantised: codes of different scales have no mean. Convert
        first, quantise then.

    Examples
    --------
    Two heads of keys and values become one, and half of the cache is left:

    >>> config = ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                      ffn=64, vocab=97, context=64)
    >>> model = Transformer(config)
    >>> small = fewer_kv_heads(model, kv_heads=1)
    >>> small.config.kv_heads, model.config.kv_heads
    (1, 2)
    >>> small(torch.tensor([[5, 3, 96]])).shape
    torch.Size([1, 3, 97])
    >>> from helpers.formulas.kv_cache import kv_bytes_per_token
    >>> kv_bytes_per_token(layers=2, kv_heads=small.config.kv_heads, head_dim=8,
    ...                    bytes_per_element=4)  # of 256
    128
    """
    own = model.config.kv_heads
    if isinstance(kv_heads, bool) or not isinstance(kv_heads, int) or kv_heads < 1:
        raise ValueError(f"kv_heads is {kv_heads!r}; it must be a whole number, 1 to {own}")
    if own % kv_heads:
        allowed = ", ".join(str(count) for count in range(1, own + 1) if own % count == 0)
        raise ValueError(
            f"kv_heads is {kv_heads}; it must divide the model's {own}, so that each new head is "
            f"the mean of as many: allowed are {allowed}"
        )
    for layer in model.layers:
        if not isinstance(layer.attention.qkv, nn.Linear):
            raise TypeError(
                f"model: qkv is a {type(layer.attention.qkv).__name__}; allowed is Linear "
                "(convert before you quantise)"
            )
    made = deepcopy(model)
    made.config = replace(model.config, kv_heads=kv_heads)
    for layer in made.layers:
        layer.attention.config = made.config
        linear = layer.attention.qkv
        linear.weight = _pooled(linear.weight, model.config, kv_heads)
        if linear.bias is not None:
            linear.bias = _pooled(linear.bias, model.config, kv_heads)
        linear.out_features = len(linear.weight)
    return made


def _pooled(rows: nn.Parameter, config: ModelConfig, kv_heads: int) -> nn.Parameter:
    """The parameter that takes another's place, trainable if that was."""
    with torch.no_grad():
        return nn.Parameter(pool_rows(rows, config, kv_heads), requires_grad=rows.requires_grad)
