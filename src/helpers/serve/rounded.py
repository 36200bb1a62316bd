"""What a rounded cache does to a model, measured on whole texts at once.

The engine stores a token's keys and values when the token comes, and reads them back, rounded, for
every later one. Rounding depends on the row alone, so a whole text can be run in one pass with all
rows rounded first: the same numbers, and thousands of tokens at a time. That is
:class:`RoundedAttention`.

A row is what one token leaves in one head. Its scale fits its largest number, so a channel (one of
the ``D`` places of a row) that is large for nearly every token makes the steps of all others
coarse. Liu et al. (*KIVI*, 2024) found such channels in the keys of large models, and let a channel
of several tokens share a scale instead. The group of tokens must then be complete before it can be
rounded; until then it stays as it is. That is :class:`GroupedAttention`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.lm.model import Attend, causal_attention
from helpers.serve.kv_format import Int8Format, KVFormat, kv_format


class FewBits(Int8Format):
    """Whole numbers of a few bits and a scale for each row, to see what they cost in quality.

    Codes are not packed: each lies in a byte of its own. What they would take when packed is
    :meth:`bits_per_element`.

    Parameters
    ----------
    bits : int
        2 to 8. The codes lie symmetrically around 0, so two bits give -1, 0 and 1.

    Raises
    ------
    ValueError
        For other bits.

    Examples
    --------
    >>> stored = FewBits(3)
    >>> stored.decode(stored.encode(torch.tensor([[-3.0, 1.4, 0.6, 0.0]])), torch.float32)
    tensor([[-3.,  1.,  1.,  0.]])
    >>> stored.name, stored.bits_per_element(head_dim=32)
    ('int3', 3.5)
    """

    def __init__(self, bits: int):
        super().__init__()
        if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
            raise ValueError(f"bits is {bits!r}; it must be a whole number, 2 to 8")
        self.bits, self.name = bits, f"int{bits}"


def through(form: KVFormat, rows: Tensor) -> Tensor:
    """Rows ``[..., D]`` as they come back from a cache of this format."""
    return form.decode(form.encode(rows), rows.dtype)


@dataclass(frozen=True)
class RoundedAttention:
    """An ``attend`` for whole sequences whose keys and values come out of a cache.

    Parameters
    ----------
    form : str, torch.dtype or KVFormat
        As for :func:`helpers.serve.kv_format.kv_format`.
    attend : Attend
        What is done with them then: :func:`helpers.lm.model.causal_attention`, or a window.

    Raises
    ------
    ValueError
        For an unknown format.

    Examples
    --------
    A single token sees itself alone, so its value comes back as stored:

    >>> q = k = torch.zeros(1, 1, 4); v = torch.tensor([-7.0, 3.2, 1.0, 0.4]).reshape(1, 1, 4)
    >>> RoundedAttention("int4")(0, q, k, v).flatten()
    tensor([-7.,  3.,  1.,  0.])
    """

    form: Any
    attend: Attend = causal_attention

    def __post_init__(self):
        object.__setattr__(self, "form", kv_format(self.form))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q [..., T, H, D]; k, v [..., T, Hkv, D]; out [..., T, H, D]."""
        return self.attend(layer, q, through(self.form, k), through(self.form, v))


def through_channels(form: KVFormat, keys: Tensor, tokens: int) -> Tensor:
    """Keys as they come back if a channel of several tokens shares a scale.

    Parameters
    ----------
    form : KVFormat
    keys : Tensor [..., T, Hkv, D]
    tokens : int
        Tokens in a group; T is a multiple of it.

    Examples
    --------
    Two tokens with one large channel. A scale for each row leaves nothing of the small channel; a
    scale for each channel keeps it:

    >>> keys = torch.tensor([[70.0, 0.7], [70.0, 0.1]]).unsqueeze(1)
    >>> through(FewBits(4), keys).squeeze(1)
    tensor([[70.,  0.],
            [70.,  0.]])
    >>> [f"{number:.2f}" for number in through_channels(FewBits(4), keys, 2).flatten()]
    ['70.00', '0.70', '70.00', '0.10']
    """
    # [..., T, Hkv, D] -> [..., T/tokens, tokens, Hkv, D] -> [..., T/tokens, Hkv, D, tokens]:
    # what shares a scale stands last, so it is a row to the format
    rows = keys.unflatten(-3, (-1, tokens)).movedim(-3, -1)
    return through(form, rows).movedim(-1, -3).flatten(-4, -3)


@dataclass(frozen=True)
class GroupedAttention:
    """An ``attend`` for whole sequences over a cache that rounds complete groups of tokens.

    A token sees its own group in bf16 and those before it rounded.

    Parameters
    ----------
    form : str or KVFormat
        How complete groups are stored.
    tokens : int
        Tokens in a group.
    channels : bool
        Whether a channel of a group's keys shares a scale. Otherwise a row does, as it always does
        in the values: that is for comparison, with the same tokens in bf16.

    Raises
    ------
    ValueError
        For an unknown format or no whole number of tokens; when called, keys of more or fewer
        tokens than queries.

    Examples
    --------
    Scores are equal, so each token gets the mean of the values that it sees. The third sees 3 as
    it is, and the first two as the nearest of -1, 0 and 1 times their scale, 2:

    >>> q = k = torch.zeros(3, 1, 2); v = torch.tensor([[2.0, 0.75], [2.0, 0.75], [3.0, 0.75]])
    >>> GroupedAttention(FewBits(2), tokens=2)(0, q, k, v.unsqueeze(1)).squeeze(1)[2]
    tensor([2.3333, 0.2500])
    """

    form: Any
    tokens: int = 32
    channels: bool = True
    recent: KVFormat = field(default_factory=lambda: kv_format("bfloat16"), init=False)

    def __post_init__(self):
        object.__setattr__(self, "form", kv_format(self.form))
        if isinstance(self.tokens, bool) or not isinstance(self.tokens, int) or self.tokens < 1:
            raise ValueError(f"tokens is {self.tokens!r}; it must be a whole number, 1 or more")

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q [..., T, H, D]; k, v [..., T, Hkv, D]; out [..., T, H, D]."""
        time = q.shape[-3]
        if k.shape[-3] != time:
            raise ValueError(
                f"k has {k.shape[-3]} tokens; it must have the {time} of q: groups of tokens are "
                "for whole sequences, without a cache"
            )
        done = time - time % self.tokens  # tokens in complete groups
        old_k, old_v = k[..., :done, :, :], v[..., :done, :, :]
        if self.channels and done:
            old_k = through_channels(self.form, old_k, self.tokens)
        else:
            old_k = through(self.form, old_k)
        # the cache holds complete groups rounded, and, for those who come while they fill, as
        # they are: [..., done + T, Hkv, D]
        k = torch.cat((old_k, through(self.recent, k)), dim=-3)
        v = torch.cat((through(self.form, old_v), through(self.recent, v)), dim=-3)
        # torch wants heads before time: [..., T, H, D] -> [..., H, T, D]
        shared = k.shape[-2] != q.shape[-2]
        q, k, v = q.transpose(-3, -2), k.transpose(-3, -2), v.transpose(-3, -2)
        seen = self.visible(time, q.device)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=shared)
        return out.transpose(-3, -2)

    def visible(self, time: int, device: torch.device | str | None = None) -> Tensor:
        """Who may see what, ``[T, done + T]`` of bool: rounded tokens first, then those in bf16.

        Examples
        --------
        >>> GroupedAttention("int4", tokens=2).visible(5).int()
        tensor([[0, 0, 0, 0, 1, 0, 0, 0, 0],
                [0, 0, 0, 0, 1, 1, 0, 0, 0],
                [1, 1, 0, 0, 0, 0, 1, 0, 0],
                [1, 1, 0, 0, 0, 0, 1, 1, 0],
                [1, 1, 1, 1, 0, 0, 0, 0, 1]], dtype=torch.int32)
        """
        at = torch.arange(time, device=device)
        group = at // self.tokens
        row, column = group.unsqueeze(1), group  # [T, 1] and [T]
        rounded = row > column
        recent = (row == column) & (at.unsqueeze(1) >= at)
        return torch.cat((rounded[:, : time - time % self.tokens], recent), dim=1)
