"""Attention over a paged cache: prompts, decoding, and both in one pass.

A step of a server computes tokens of many sequences, packed flat: all N of them run through the
model's matrices together, and only attention must know which is whose. What it needs to know is the
same for every layer, so it is worked out once per step: the *slots* that new keys and values go to,
the blocks to read, the masks. A layer then only writes, gathers and attends.

Letters in shape comments: N tokens packed flat over sequences; T new tokens of one sequence; S
tokens that are read; R rows that decode (one new token each); H query heads; Hkv heads of keys and
values; G = H / Hkv query heads that share one; D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.serve.cache import PagedCache, causal_mask

#: places in the order of rows: a slice if they follow each other, for then nothing is copied
Places = slice | Tensor


#: tokens of padding that take as long to read as one more call of the kernel takes to start
WORTH_A_CALL = 256


class Segment(NamedTuple):
    """One sequence's part of a step."""

    table: Sequence[int]  # its blocks
    start: int  # tokens that are in the cache already
    count: int  # new tokens, at positions start to start + count - 1

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(slots=True)
class _Work:
    """One call of the attention kernel: which rows of the step, what they read and may see."""

    rows: Places  # of the N that are packed
    source: Places  # slots in a run, or blocks to gather
    length: int  # tokens to read of each sequence; of the longest if they differ
    mask: Tensor | None  # what is added to the scores; None if every row may see all


class PagedAttention:
    """The ``attend`` of one step; see :data:`helpers.lm.model.Attend`.

    Parameters
    ----------
    cache : PagedCache
    batch : sequence of (table, start, count)
        For each sequence, in the order in which its tokens are packed: its block table, how many of
        its tokens are in the cache, how many are new. The table must have room for both.

    Raises
    ------
    ValueError
        If a table has no room for its tokens, or a number is out of range.

    Examples
    --------
    One sequence decodes its fourth token while another begins with three:

    >>> from helpers.lm.config import ModelConfig
    >>> from helpers.lm.model import Transformer
    >>> config = ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                      ffn=64, vocab=97, context=64)
    >>> model, cache = Transformer(config), PagedCache(config, blocks=6, block_size=2)
    >>> _ = model.hidden(torch.tensor([5, 3, 96]), torch.arange(3),
    ...                  PagedAttention(cache, [([4, 0], 0, 3)]))
    >>> mixed = PagedAttention(cache, [([4, 0], 3, 1), ([5, 2], 0, 3)])
    >>> hidden = model.hidden(torch.tensor([8, 1, 2, 3]), torch.tensor([3, 0, 1, 2]), mixed)
    >>> alone = model.hidden(torch.tensor([5, 3, 96, 8]))
    >>> torch.allclose(hidden[0], alone[3], atol=1e-6)
    True
    """

    def __init__(self, cache: PagedCache, batch: Sequence[tuple[Sequence[int], int, int]]):
        self.cache = cache
        segments = [Segment(*segment) for segment in batch]
        if not segments:
            raise ValueError("batch is empty; it must hold one or more sequences")
        for place, segment in enumerate(segments):
            _check(place, segment, cache)
        #: the first row of each sequence, then N
        firsts = list(accumulate((segment.count for segment in segments), initial=0))
        self.rows = firsts.pop()
        self._slots = _places(
            [slot for segment in segments for slot in self._slots_of(segment)], cache.device
        )
        self._segments = list(zip(firsts, segments, strict=True))
        self._decode: list[_Work] | None = None  # both wait for the first layer, that is, dtype
        self._prefill: list[_Work] | None = None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new keys and values, then attend: q [N, H, D]; k, v [N, Hkv, D]."""
        if self._decode is None:
            if len(q) != self.rows:
                raise ValueError(f"q has {len(q)} rows; the batch has {self.rows} new tokens")
            self._plan(q.dtype)
            if begun := self._begun():
                self.cache.clear(begun)
        self.cache.write(layer, self._slots, k, v)
        if len(self._decode) == 1 and not self._prefill:
            return self._decode_rows(layer, q, self._decode[0])
        out = torch.empty_like(q)
        for work in self._decode:
            out[work.rows] = self._decode_rows(layer, q[work.rows], work)
        for work in self._prefill:
            out[work.rows] = self._prefill_rows(layer, q[work.rows], work)
        return out

    # ---- one layer -----------------------------------------------------------------------------

    def _decode_rows(self, layer: int, q: Tensor, work: _Work) -> Tensor:
        """One token of each of R sequences, q [R, H, D]."""
        count, heads, dim = q.shape
        keys, values = self._read(layer, count, work, q.dtype)  # [R, Hkv, S, D]
        # the G query heads that share keys are G queries to them: [R, H, D] -> [R, Hkv, G, D]
        q = q.reshape(count, -1, heads // keys.shape[1], dim)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=work.mask)
        return out.reshape(count, heads, dim)

    def _prefill_rows(self, layer: int, q: Tensor, work: _Work) -> Tensor:
        """Several new tokens of one sequence, q [T, H, D]."""
        keys, values = self._read(layer, 1, work, q.dtype)  # [1, Hkv, S, D]
        out = F.scaled_dot_product_attention(
            q.transpose(0, 1).unsqueeze(0),  # [T, H, D] -> [1, H, T, D]
            keys,
            values,
            attn_mask=work.mask,
            is_causal=work.mask is None,
            enable_gqa=q.shape[1] != keys.shape[1],
        )
        return out.squeeze(0).transpose(0, 1)  # [1, H, T, D] -> [T, H, D]

    def _read(
        self, layer: int, count: int, work: _Work, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of ``count`` sequences, [count, Hkv, S, D]."""
        read = self.cache.read if isinstance(work.source, slice) else self.cache.gather
        keys, values = (
            # [count * S', Hkv, D] -> [count, S', Hkv, D] -> [count, Hkv, S, D]
            rows.unflatten(0, (count, -1))[:, : work.length].transpose(1, 2)
            for rows in read(layer, work.source, dtype)
        )
        return keys, values

    def _begun(self) -> list[int]:
        """Blocks that a sequence begins in this step and does not fill.

        Behind its tokens they hold what somebody left there. That is masked, but a mask is added
        and a weight of 0 multiplied: neither gets rid of a NaN.
        """
        size = self.cache.block_size
        return [
            segment.table[segment.end // size]
            for _, segment in self._segments
            if segment.start <= segment.end // size * size < segment.end
        ]

    # ---- once per step -------------------------------------------------------------------------

    def _plan(self, dtype: torch.dtype) -> None:
        decoding = [one for one in self._segments if one[1].count == 1]
        self._decode = [
            self._plan_decode([decoding[place] for place in group], dtype)
            for group in group_lengths([segment.end for _, segment in decoding])
        ]
        self._prefill = [
            self._plan_prefill(first, segment, dtype)
            for first, segment in self._segments
            if segment.count > 1
        ]

    def _plan_decode(self, decoding: list[tuple[int, Segment]], dtype: torch.dtype) -> _Work:
        """Decoding rows together: the shorter tables are filled up, and what is read so masked.

        A table is filled up with its own last block, never with somebody else's.
        """
        cache = self.cache
        lengths = [segment.end for _, segment in decoding]
        longest = max(lengths)
        width = -(-longest // cache.block_size)
        source = self._source([segment for _, segment in decoding], width)
        mask = None
        if min(lengths) < longest:
            ends = torch.tensor(lengths, device=cache.device).view(-1, 1, 1, 1)
            beyond = torch.arange(longest, device=cache.device) >= ends  # [R, 1, 1, S]
            mask = torch.zeros(beyond.shape, dtype=dtype, device=cache.device)
            mask.masked_fill_(beyond, -torch.inf)
            # a kernel may want it in the shape of the scores; expanding copies nothing
            mask = mask.expand(-1, -1, cache.config.group, -1)
        rows = _places([first for first, _ in decoding], cache.device)
        return _Work(rows, source, longest, mask)

    def _plan_prefill(self, first: int, segment: Segment, dtype: torch.dtype) -> _Work:
        mask = None
        if segment.start:  # the kernel's own causal mask is for what begins at 0
            mask = causal_mask(segment.start, segment.count, dtype, self.cache.device)
        source = self._source([segment], -(-segment.end // self.cache.block_size))
        return _Work(slice(first, first + segment.count), source, segment.end, mask)

    def _source(self, segments: list[Segment], width: int) -> Places:
        """Blocks of all tables, each ``width`` long; for one table in a run, its slots."""
        blocks: list[int] = []
        for segment in segments:
            table = list(segment.table[: -(-segment.end // self.cache.block_size)])
            blocks += table + table[-1:] * (width - len(table))
        places = _places(blocks, self.cache.device)
        if isinstance(places, slice):
            size = self.cache.block_size
            return slice(places.start * size, places.stop * size)
        return places

    def _slots_of(self, segment: Segment) -> list[int]:
        """Where the keys and values of a sequence's new tokens go."""
        size = self.cache.block_size
        return [
            segment.table[position // size] * size + position % size
            for position in range(segment.start, segment.end)
        ]


def group_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Put sequences that are computed together into groups, so that little padding is read.

    Parameters
    ----------
    lengths : sequence of int

    Returns
    -------
    list of list of int
        Places in ``lengths``, each once, in order within a group; the longest sequences first. A
        cut is made where it saves most, if that is more than :data:`WORTH_A_CALL` tokens.

    Examples
    --------
    >>> group_lengths([500, 20, 30, 480, 25])
    [[0, 3], [1, 2, 4]]
    >>> group_lengths([50, 20, 30])
    [[0, 1, 2]]
    """
    if not lengths:
        return []
    return _cut(sorted(range(len(lengths)), key=lambda place: -lengths[place]), lengths)


def _cut(places: list[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cut places, the longest first, where it saves most, as long as it is worth it."""
    longest, count = lengths[places[0]], len(places)
    # cut before the i-th longest, and all from there on are padded less
    saved = [(count - i) * (longest - lengths[place]) for i, place in enumerate(places)]
    best = max(range(count), key=saved.__getitem__)
    if saved[best] <= WORTH_A_CALL:
        return [sorted(places)]
    return _cut(places[:best], lengths) + _cut(places[best:], lengths)


def _places(numbers: list[int], device: torch.device) -> Places:
    """A slice if the numbers follow each other, else a tensor of them."""
    first, count = numbers[0], len(numbers)
    if numbers[-1] == first + count - 1 and numbers == list(range(first, first + count)):
        return slice(first, first + count)
    return torch.tensor(numbers, device=device)


def _check(place: int, segment: Segment, cache: PagedCache) -> None:
    table, start, count = segment
    if start < 0 or count < 1:
        raise ValueError(
            f"batch[{place}] starts at {start} with {count} new tokens; allowed are a start of 0 "
            "or more and 1 or more new tokens"
        )
    need = -(-segment.end // cache.block_size)
    if len(table) < need:
        raise ValueError(
            f"batch[{place}] has {len(table)} blocks of {cache.block_size}; its {segment.end} "
            f"tokens need {need}"
        )
    if not 0 <= min(table) <= max(table) < cache.blocks:
        raise ValueError(
            f"batch[{place}] has the blocks {list(table)}; blocks are 0 to {cache.blocks - 1}"
        )
