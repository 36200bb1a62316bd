"""Attention that forgets: each token sees the last few and, if wanted, the very first.

A cache that keeps only the last ``window`` tokens stops growing. Models trained to see everything
take it badly once the first tokens are gone, for many heads put the share of their attention that
they have no use for there: the *attention sinks* of Xiao et al. (*StreamingLLM*, 2023). Keeping
``sinks`` of the first tokens beside the window costs next to nothing.

What is modelled is what a token can see, at its true position. The paper runs past the length that
the model was trained on, and for that counts positions within the cache, so that a sink is never
farther away than the cache is long; within the trained length both can be used, and they are not
the same. A token is seen through those between, too: with L layers, what is ``L * (window - 1)``
tokens back can still have an effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.formulas import kv_cache
from helpers.lm.model import causal_attention


@dataclass(frozen=True)
class SlidingAttention:
    """An ``attend`` for whole sequences; see :data:`helpers.lm.model.Attend`.

    Parameters
    ----------
    window : int
        Tokens that each token sees at most, up to and with itself.
    sinks : int
        First tokens of the sequence that it sees besides.

    Raises
    ------
    ValueError
        A window that is no whole number above 0, sinks that are none from 0 up; when called, keys
        of more or fewer tokens than queries.

    Examples
    --------
    Of five tokens each sees itself, the one before and the first. Scores are equal, so each gets
    the mean of the values that it sees:

    >>> q = k = torch.zeros(5, 1, 2); v = torch.tensor([0.0, 1, 2, 3, 4]).reshape(5, 1, 1)
    >>> SlidingAttention(window=2, sinks=1)(0, q, k, v).flatten()
    tensor([0.0000, 0.5000, 1.0000, 1.6667, 2.3333])

    A model takes it in place of its own:

    >>> from helpers.lm.config import ModelConfig
    >>> from helpers.lm.model import Transformer
    >>> model = Transformer(ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                                 ffn=64, vocab=97, context=64))
    >>> attend = SlidingAttention(window=16, sinks=4)
    >>> model(torch.tensor([[5, 3, 96]]), attend=attend).shape
    torch.Size([1, 3, 97])
    >>> attend.cached_tokens(1000)
    20
    """

    window: int
    sinks: int = 0

    def __post_init__(self):
        for name, least in (("window", 1), ("sinks", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"{name} is {value!r}; it must be a whole number of tokens, {least} or more"
                )

    def cached_tokens(self, tokens: int) -> int:
        """Tokens of a sequence that a cache must keep: the others are never seen again."""
        return kv_cache.cached_tokens(tokens, self.window + self.sinks)

    def visible(self, tokens: int, device: torch.device | str | None = None) -> Tensor:
        """Who may see whom, [T, T] of bool: the row looks, the column is looked at.

        Examples
        --------
        >>> SlidingAttention(window=2, sinks=1).visible(4).int()
        tensor([[1, 0, 0, 0],
                [1, 1, 0, 0],
                [1, 1, 1, 0],
                [1, 0, 1, 1]], dtype=torch.int32)
        """
        at = torch.arange(tokens, device=device)
        back = at.unsqueeze(1) - at  # [T, T]: how far the column lies behind the row
        return (back >= 0) & ((back < self.window) | (at < self.sinks))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q [..., T, H, D]; k, v [..., T, Hkv, D]; out [..., T, H, D]."""
        tokens = q.shape[-3]
        if k.shape[-3] != tokens:
            raise ValueError(
                f"k has {k.shape[-3]} tokens; it must have the {tokens} of q: a sliding window "
                "runs over whole sequences, without a cache"
            )
        if tokens <= self.window + self.sinks:  # nothing is out of sight
            return causal_attention(layer, q, k, v)
        shared = k.shape[-2] != q.shape[-2]
        # torch wants heads before time: [..., T, H, D] -> [..., H, T, D]
        q, k, v = q.transpose(-3, -2), k.transpose(-3, -2), v.transpose(-3, -2)
        seen = self.visible(tokens, q.device)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=shared)
        return out.transpose(-3, -2)
