"""How much memory the KV cache of any model takes: per token, sequence, batch and rank.

One estimator for every model: it adds up what each layer caches (:mod:`.kv_layer`), in the format
it is stored in (:mod:`.kv_element`), in whole blocks if the cache is paged, on as many ranks as
share it. All results are whole bytes.

What is counted: keys and values, with their scales. What is not: block tables, shared prefixes
(each sequence pays for its own tokens), the spare block that a server may hold at a window's edge,
and anything that is no cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from helpers.catalog import Model
from helpers.catalog.quantities import format_quantity

from .checks import check_bytes, check_whole
from .kv_cache import kv_blocks, paged_kv_cache_bytes, sequences_that_fit
from .kv_element import KVElement, kv_element
from .kv_layer import LayerCache
from .kv_layout import CacheLayout, layout_of

__all__ = ["CacheEstimate", "CacheLayout", "KVElement", "LayerCache", "layout_of"]


@dataclass(frozen=True)
class CacheEstimate:
    """The KV cache of a model, ready to be sized.

    Parameters
    ----------
    layout : helpers.catalog.Model or CacheLayout
        A record of the catalog, or layers described by hand.
    element : str or KVElement
        How one number is stored: ``"bf16"``, ``"fp8"``, ``"int8"``, ``"nvfp4"`` ...
    block_size : int
        Tokens in a block of a paged cache; 1 rounds nothing up.
    tensor_parallel : int
        Ranks that share the heads. Where there are more ranks than KV heads, each head stands on
        several of them; with multi-head latent attention the whole cache stands on every rank.

    Raises
    ------
    TypeError
        If the layout is neither a record nor a layout.
    ValueError
        If an argument is out of range, the ranks do not divide the heads of a layer, or a row does
        not fill whole bytes in the format.

    Examples
    --------
    >>> from helpers import catalog
    >>> llama = CacheEstimate(catalog.model("llama-3.1-70b"), block_size=16, tensor_parallel=2)
    >>> llama.bytes_per_token, llama.rank_bytes_per_token
    (327680, 163840)
    >>> llama.sequence_bytes(131_072) == 40 * 2**30
    True
    >>> llama.sequences_that_fit(20 * 2**30, tokens=8192)
    16
    """

    layout: CacheLayout | Model
    element: KVElement | str = "bf16"
    block_size: int = 1
    tensor_parallel: int = 1

    def __post_init__(self):
        if not isinstance(self.layout, CacheLayout):
            object.__setattr__(self, "layout", layout_of(self.layout))
        object.__setattr__(self, "element", kv_element(self.element))
        for name in ("block_size", "tensor_parallel"):
            object.__setattr__(self, name, check_whole(name, getattr(self, name)))
        for layer in self.layout.kinds():  # raises now what would raise in every result
            layer.bytes_per_token(self.element, self.tensor_parallel)

    # --- per token -----------------------------------------------------------------------------

    @property
    def rank_bytes_per_token(self) -> int:
        """Bytes that a token adds on each rank, as long as no window is full."""
        return sum(size for _, size in self._kinds())

    @property
    def bytes_per_token(self) -> int:
        """Bytes that a token adds on all ranks together, copies included."""
        return self.tensor_parallel * self.rank_bytes_per_token

    @property
    def copies(self) -> Fraction:
        """How often the cache stands on the ranks, on average: 1 if it is only divided.

        Examples
        --------
        >>> from helpers import catalog
        >>> print(CacheEstimate(catalog.model("llama-3.1-8b"), tensor_parallel=32).copies)
        4
        """
        alone = sum(
            layer.bytes_per_token(self.element, layers=count)
            for layer, count in self.layout.kinds().items()
        )
        return Fraction(self.bytes_per_token, alone)

    # --- sequences -----------------------------------------------------------------------------

    def rank_sequence_bytes(self, tokens: int) -> int:
        """Bytes of one sequence on each rank, in whole blocks.

        Examples
        --------
        >>> from helpers import catalog
        >>> CacheEstimate(catalog.model("gpt2"), block_size=16).rank_sequence_bytes(17) // 36_864
        32
        """
        tokens = check_whole("tokens", tokens, 0)
        total = 0
        for layer, size in self._kinds():
            # a Fraction keeps the formula's division exact, however long the sequence
            blocks = kv_blocks(Fraction(layer.cached_tokens(tokens)), self.block_size)
            total += paged_kv_cache_bytes(size, blocks, self.block_size)
        return total

    def sequence_bytes(self, tokens: int) -> int:
        """Bytes of one sequence on all ranks together.

        Parameters
        ----------
        tokens : int
            Its tokens, prompt and answer.

        Examples
        --------
        >>> from helpers import catalog
        >>> mistral = catalog.model("mistral-7b-v0.1")
        >>> CacheEstimate(mistral).sequence_bytes(32_768) / 2**30  # its window holds 4,096
        0.5
        """
        return self.tensor_parallel * self.rank_sequence_bytes(tokens)

    def rank_batch_bytes(self, lengths: Iterable[int]) -> int:
        """Bytes of sequences of these lengths on each rank."""
        return sum(self.rank_sequence_bytes(tokens) for tokens in _lengths(lengths))

    def batch_bytes(self, lengths: Iterable[int]) -> int:
        """Bytes of sequences of these lengths on all ranks together.

        Parameters
        ----------
        lengths : sequence of int
            Tokens of each sequence.

        Examples
        --------
        >>> from helpers import catalog
        >>> paged = CacheEstimate(catalog.model("llama-2-7b"), block_size=16)
        >>> paged.batch_bytes([1, 16, 17]) == (16 + 16 + 32) * paged.bytes_per_token
        True
        """
        return self.tensor_parallel * self.rank_batch_bytes(lengths)

    # --- what fits -----------------------------------------------------------------------------

    def sequences_that_fit(self, rank_free_bytes: Any, tokens: int) -> int:
        """Sequences of one length that fit beside each other.

        Parameters
        ----------
        rank_free_bytes : number
            Memory left for the cache on each rank.
        tokens : int
            Length that each sequence reserves.

        Examples
        --------
        >>> from helpers import catalog
        >>> CacheEstimate(catalog.model("deepseek-v3")).sequences_that_fit(40 * 2**30, 8192)
        74
        """
        free, tokens = (
            check_bytes("rank_free_bytes", rank_free_bytes),
            check_whole("tokens", tokens),
        )
        # rounding and windows included, so an average over the sequence and not what one token adds
        per_token = Fraction(self.rank_sequence_bytes(tokens), tokens)
        return sequences_that_fit(free, per_token, tokens)

    def tokens_that_fit(self, rank_free_bytes: Any) -> int | float:
        """Tokens of the longest sequence that fits alone.

        Parameters
        ----------
        rank_free_bytes : number
            Memory left for the cache on each rank.

        Returns
        -------
        int or float
            A multiple of the block size; ``math.inf`` where every window is full and no layer
            grows any further. Without windows this is also the capacity of a pool of blocks.

        Examples
        --------
        >>> from helpers import catalog
        >>> mistral = catalog.model("mistral-7b-v0.1")
        >>> [CacheEstimate(mistral).tokens_that_fit(gib * 2**30) for gib in (0.25, 0.5)]
        [2048, inf]
        """
        free = check_bytes("rank_free_bytes", rank_free_bytes)
        growing = sum(size for layer, size in self._kinds() if layer.window is None)
        windows = max((layer.window or 0 for layer, _ in self._kinds()), default=0)
        if not growing and self.rank_sequence_bytes(windows) <= free:
            return math.inf
        # between nothing and the blocks that the growing layers alone allow, or the largest window
        low, high = 0, kv_blocks(Fraction(windows), self.block_size)
        if growing:  # a block is a short sequence
            high = sequences_that_fit(free, growing, self.block_size)
        while low < high:
            middle = (low + high + 1) // 2
            if self.rank_sequence_bytes(middle * self.block_size) <= free:
                low = middle
            else:
                high = middle - 1
        return low * self.block_size

    # --- to read -------------------------------------------------------------------------------

    def summary(self, tokens: int) -> str:
        """Say in a few lines what the cache takes at a length.

        Examples
        --------
        >>> from helpers import catalog
        >>> print(CacheEstimate(catalog.model("llama-3.1-8b"), "fp8").summary(131_072))
        Llama 3.1 8B: 32 x GQA 32/8 x 128
        fp8, blocks of 1 token, 1 rank
        per token: 65,536 B = 64 KiB
        at 131,072 tokens: 8,589,934,592 B = 8 GiB (8.58993 GB)
        """
        total = self.sequence_bytes(tokens)
        lines = [
            str(self.layout),
            f"{self.element.name}, blocks of {_plural(self.block_size, 'token')},"
            f" {_plural(self.tensor_parallel, 'rank')}",
            f"per token: {self.bytes_per_token:,} B = {_binary(self.bytes_per_token, 'KiB')}",
            f"at {_plural(int(tokens), 'token')}: {total:,} B = {_binary(total, 'GiB')}"
            f" ({format_quantity(total, 'GB', 6)})",
        ]
        if self.tensor_parallel > 1:
            rank = self.rank_sequence_bytes(tokens)
            lines.append(
                f"on each rank: {rank:,} B = {_binary(rank, 'GiB')};"
                f" the cache stands {float(self.copies):g} times"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return (
            f"{self.layout.name} in {self.element.name}:"
            f" {_binary(self.bytes_per_token, 'KiB')} per token"
        )

    def _kinds(self) -> list[tuple[LayerCache, int]]:
        """Each kind of layer with the bytes that a token adds to all of them on a rank."""
        return [
            (layer, layer.bytes_per_token(self.element, self.tensor_parallel, count))
            for layer, count in self.layout.kinds().items()
        ]


def _lengths(lengths: Any) -> list[int]:
    """Return the lengths of a batch, or say which one is not a length."""
    if isinstance(lengths, str) or not isinstance(lengths, Iterable):
        raise TypeError(f"lengths: {lengths!r}; allowed is a sequence with each sequence's tokens")
    return [check_whole(f"lengths[{i}]", tokens, 0) for i, tokens in enumerate(lengths)]


def _binary(nbytes: int, unit: str) -> str:
    return format_quantity(nbytes, unit, 6)


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
