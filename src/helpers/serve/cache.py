"""Where keys and values of earlier tokens are kept: in one piece for a batch, or in blocks.

:class:`ContiguousCache` reserves the full length for each row of a batch. It is the simplest that
works, and what speculative decoding of one sequence uses. :class:`PagedCache` holds blocks that a
:class:`~helpers.serve.blocks.BlockManager` hands out; who reads it is
:class:`helpers.serve.attention.PagedAttention`.

Letters in shape comments: L layers, B batch, T new tokens, S tokens in the cache, H query heads,
Hkv heads of keys and values, D head size, N tokens packed flat over sequences, w the width of a
part of a format (D if rows are stored as they are).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.formulas.kv_cache import (
    kv_bytes_per_token,
    kv_cache_bytes,
    paged_kv_cache_bytes,
)
from helpers.lm.config import ModelConfig
from helpers.serve.kv_format import KVFormat, kv_format


class ContiguousCache:
    """Keys and values of a batch whose rows are equally long.

    Parameters
    ----------
    config : ModelConfig
    batch : int
        Rows.
    capacity : int
        Tokens of each row that have room.
    dtype : torch.dtype, str or KVFormat
        How rows are stored; see :func:`helpers.serve.kv_format.kv_format`.
    device : torch.device, optional

    Attributes
    ----------
    length : int
        Tokens of each row that are in the cache.
    keys, values : tuple of Tensor [L, B, Hkv, capacity, w]
        One for each part of the format. Heads stand before tokens: so the rows that one head
        reads lie together.

    Examples
    --------
    >>> from helpers.lm.model import Transformer
    >>> config = ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                      ffn=64, vocab=97, context=64)
    >>> model, cache = Transformer(config), ContiguousCache(config, batch=1, capacity=16)
    >>> tokens = torch.tensor([[5, 3, 96, 8]])
    >>> _ = cache.forward(model, tokens[:, :3])  # the prompt, [1, 3, C]
    >>> hidden = cache.forward(model, tokens[:, 3:])  # one token more, [1, 1, C]
    >>> torch.allclose(hidden, model.hidden(tokens)[:, 3:], atol=1e-6)
    True
    >>> cache.length, cache.bytes  # 2 tensors x 2 layers x 2 heads x 16 tokens x 8 x 4 bytes
    (4, 4096)
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: Any = torch.float32,
        device: torch.device | str | None = None,
    ):
        _check_sizes(batch=batch, capacity=capacity)
        self.config = config
        self.batch = batch
        self.capacity = capacity
        self.format = kv_format(dtype)
        self.device = torch.device(device or "cpu")
        self.length = 0
        shape = (config.layers, batch, config.kv_heads, capacity)
        self.keys = _new_parts(self.format, shape, config.head_dim, self.device)
        self.values = _new_parts(self.format, shape, config.head_dim, self.device)
        self._mask: Tensor | None = None
        self._mask_of: tuple | None = None

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return _bytes(self.keys + self.values)

    @property
    def predicted_bytes(self) -> int:
        """The same, by the formula."""
        per_token = bytes_per_token(self.config, self.format)
        return round(kv_cache_bytes(per_token, self.capacity, self.batch))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new tokens' keys and values behind the others, then attend to all.

        The ``attend`` of a model: q [B, T, H, D]; k, v [B, T, Hkv, D]; out [B, T, H, D]. The length
        does not change: each layer writes to the same place (see :meth:`advance`).
        """
        batch, new = q.shape[:2]
        if batch != self.batch:
            raise ValueError(f"q has {batch} rows; the cache holds a batch of {self.batch}")
        end = self.length + new
        self._check_room(new)
        keys = self._write(self.keys, layer, k, end)  # [B, Hkv, S, D]
        values = self._write(self.values, layer, v, end)
        if new == 1:
            # the H / Hkv query heads that share keys are so many queries to them:
            # [B, 1, H, D] -> [B, Hkv, H/Hkv, D]
            q = q.reshape(batch, self.config.kv_heads, -1, q.shape[-1])
            out = F.scaled_dot_product_attention(q, keys, values)
            return out.reshape(batch, 1, -1, q.shape[-1])  # -> [B, 1, H, D]
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2),  # [B, H, T, D]
            keys,
            values,
            attn_mask=self._causal(new, q) if self.length else None,
            is_causal=not self.length,
            enable_gqa=self.config.group > 1,
        )
        return out.transpose(1, 2)  # [B, T, H, D]

    def advance(self, tokens: int) -> None:
        """Count tokens as held, after the whole model ran over them."""
        self._check_room(tokens)
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Keep only the first ``length`` tokens: the rest is written over."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length is {length!r}; the cache can be cut to 0 to {self.length}")
        self.length = length

    def forward(self, model: Any, tokens: Tensor) -> Tensor:
        """Run a model over tokens [B, T] behind those in the cache; its hidden states [B, T, C]."""
        new = tokens.shape[-1]
        self._check_room(new)
        positions = torch.arange(self.length, self.length + new, device=tokens.device)
        hidden = model.hidden(tokens, positions, self)
        self.advance(new)
        return hidden

    def _write(self, parts: tuple[Tensor, ...], layer: int, rows: Tensor, end: int) -> Tensor:
        """Store rows [B, T, Hkv, D]; return all rows so far, [B, Hkv, S, D]."""
        coded = self.format.encode(rows.detach().transpose(1, 2))  # without a gradient's needs
        for part, new in zip(parts, coded, strict=True):
            part[layer, :, :, self.length : end] = new
        return self.format.decode([part[layer, :, :, :end] for part in parts], rows.dtype)

    def _causal(self, new: int, like: Tensor) -> Tensor:
        """What each new token must not see, [T, S]; the same for all layers of a pass."""
        wanted = (self.length, new, like.dtype)
        if self._mask_of != wanted:
            self._mask = causal_mask(self.length, new, like.dtype, like.device)
            self._mask_of = wanted
        return self._mask

    def _check_room(self, new: int) -> None:
        if self.length + new > self.capacity:
            raise ValueError(
                f"tokens: {new} more do not fit; the cache holds {self.length} of {self.capacity}"
            )


class PagedCache:
    """Keys and values in blocks; which block is whose, the block manager knows.

    Parameters
    ----------
    config : ModelConfig
    blocks : int
        Blocks that are reserved, now and for good.
    block_size : int
        Tokens in a block.
    dtype : torch.dtype, str or KVFormat
        How rows are stored; see :func:`helpers.serve.kv_format.kv_format`.
    device : torch.device, optional

    Attributes
    ----------
    keys, values : tuple of Tensor [L, blocks, block_size, Hkv, w]
        One for each part of the format. A *slot* is the place of one token; slot ``s`` is place
        ``s % block_size`` of block ``s // block_size``.

    Examples
    --------
    >>> config = ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                      ffn=64, vocab=97, context=64)
    >>> cache = PagedCache(config, blocks=10, block_size=16, dtype="bfloat16")
    >>> cache.bytes, cache.predicted_bytes
    (20480, 20480)
    """

    def __init__(
        self,
        config: ModelConfig,
        blocks: int,
        block_size: int,
        dtype: Any = torch.float32,
        device: torch.device | str | None = None,
    ):
        _check_sizes(blocks=blocks, block_size=block_size)
        self.config = config
        self.blocks = blocks
        self.block_size = block_size
        self.format = kv_format(dtype)
        self.device = torch.device(device or "cpu")
        shape = (config.layers, blocks, block_size, config.kv_heads)
        self.keys = _new_parts(self.format, shape, config.head_dim, self.device)
        self.values = _new_parts(self.format, shape, config.head_dim, self.device)
        # the same memory, cut once into what each layer touches: slots [slots, Hkv, w], blocks
        # [blocks, block_size, Hkv, w]
        both = (self.keys, self.values)
        self._slots = [_by_layer([part.flatten(1, 2) for part in parts]) for parts in both]
        self._blocks = [_by_layer(parts) for parts in both]

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return _bytes(self.keys + self.values)

    @property
    def predicted_bytes(self) -> int:
        """The same, by the formula."""
        per_token = bytes_per_token(self.config, self.format)
        return round(paged_kv_cache_bytes(per_token, self.blocks, self.block_size))

    def write(self, layer: int, slots: Tensor | slice, k: Tensor, v: Tensor) -> None:
        """Store rows [N, Hkv, D] in N slots, without what a gradient would need."""
        for stored, rows in zip(self._slots, (k, v), strict=True):
            for part, new in zip(stored[layer], self.format.encode(rows.detach()), strict=True):
                if isinstance(slots, slice):
                    part[slots] = new
                else:
                    part.index_copy_(0, slots, new)

    def read(self, layer: int, slots: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of slots that follow each other, [S, Hkv, D]; no copy if lossless."""
        keys, values = (
            self.format.decode([part[slots] for part in stored[layer]], dtype)
            for stored in self._slots
        )
        return keys, values

    def gather(self, layer: int, blocks: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of any blocks, copied one behind the other, [S, Hkv, D]."""
        keys, values = (
            # [blocks, block_size, Hkv, w] -> [S, Hkv, w]
            self.format.decode(
                [part.index_select(0, blocks).flatten(0, 1) for part in stored[layer]], dtype
            )
            for stored in self._blocks
        )
        return keys, values

    def clear(self, blocks: Sequence[int]) -> None:
        """Write zeros to whole blocks of all layers: what is read but masked must be a number."""
        for part in self.keys + self.values:
            part[:, blocks] = 0

    def copy(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Copy whole blocks of all layers, one pair (source, destination) after the other."""
        for source, destination in pairs:
            for part in self.keys + self.values:
                part[:, destination] = part[:, source]


def bytes_per_token(config: ModelConfig, stored: KVFormat) -> float:
    """Bytes of keys and values of one token in all layers.

    Examples
    --------
    >>> llama = ModelConfig.from_catalog("llama-3.1-8b")
    >>> bytes_per_token(llama, kv_format("bfloat16")), bytes_per_token(llama, kv_format("int8"))
    (131072.0, 66560.0)
    """
    bits = stored.bits_per_element(config.head_dim)
    return kv_bytes_per_token(config.layers, config.kv_heads, config.head_dim, bits / 8)


def causal_mask(past: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where one of ``new`` tokens may look, else -inf, [T, S]: all before it, and itself.

    Examples
    --------
    >>> causal_mask(past=2, new=2, dtype=torch.float32, device=torch.device("cpu"))
    tensor([[0., 0., 0., -inf],
            [0., 0., 0., 0.]])
    """
    mask = torch.full((new, past + new), -torch.inf, dtype=dtype, device=device)
    return mask.triu_(past + 1)


def _new_parts(
    stored: KVFormat, shape: tuple[int, ...], head_dim: int, device: torch.device
) -> tuple[Tensor, ...]:
    """The tensors of a format, filled with zeros: what is read but masked must be a number."""
    return tuple(
        torch.zeros(*shape, width, dtype=dtype, device=device)
        for width, dtype in stored.parts(head_dim)
    )


def _by_layer(parts: Sequence[Tensor]) -> list[list[Tensor]]:
    """For each layer its share of all parts."""
    return [[part[layer] for part in parts] for layer in range(len(parts[0]))]


def _bytes(parts: tuple[Tensor, ...]) -> int:
    return sum(part.untyped_storage().nbytes() for part in parts)


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number, 1 or more")
