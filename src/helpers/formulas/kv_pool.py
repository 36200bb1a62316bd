"""What a server has left for its KV cache: a share of the memory, less the weights, less the rest.

The bytes of a token are exact before anything runs. These are not: what the server sets aside for
activations and buffers depends on its version and its settings, so it is an argument here, to be
taken from a log or bracketed by two guesses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any

from .checks import check_bytes
from .kv_estimate import CacheEstimate

__all__ = ["ServerPool"]


@dataclass(frozen=True)
class ServerPool:
    """The memory of each rank, divided up.

    Parameters
    ----------
    estimate : CacheEstimate
        The model in the server's element format, block size and tensor parallelism.
    rank_memory_bytes : number
        Memory of one GPU.
    weight_bytes : number
        Of the whole model. We divide them evenly among the ranks; norms, which stand on every rank,
        are too small to matter.
    rank_other_bytes : number
        Activations, buffers and what else the server needs on each rank.
    usable : float
        Share of the memory that the server allows itself.

    Raises
    ------
    TypeError
        If the estimate is no :class:`CacheEstimate`.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from helpers import catalog
    >>> llama = catalog.model("llama-3.1-8b")
    >>> pool = ServerPool(CacheEstimate(llama), 80e9, 2 * llama.parameters, rank_other_bytes=2e9)
    >>> pool.rank_pool_bytes, pool.users(8192)
    (53939477504, 50)
    """

    estimate: CacheEstimate
    rank_memory_bytes: Any
    weight_bytes: Any
    rank_other_bytes: Any = 0
    usable: float = 0.9

    def __post_init__(self):
        if not isinstance(self.estimate, CacheEstimate):
            raise TypeError(f"estimate: {self.estimate!r}; allowed is a CacheEstimate")
        for name in ("rank_memory_bytes", "weight_bytes", "rank_other_bytes"):
            object.__setattr__(self, name, check_bytes(name, getattr(self, name)))
        is_number = isinstance(self.usable, Real) and not isinstance(self.usable, bool)
        if not (is_number and 0 < self.usable <= 1):
            raise ValueError(
                f"usable: {self.usable!r}; allowed is a share of the memory, above 0 and at most 1"
            )

    @property
    def rank_usable_bytes(self) -> Fraction:
        """What the server allows itself of one GPU."""
        # a decimal share as it is written: 0.9 is nine tenths, not the nearest binary fraction
        return self.rank_memory_bytes * Fraction(repr(float(self.usable)))

    @property
    def rank_weight_bytes(self) -> Fraction:
        """Weights on one GPU."""
        return self.weight_bytes / self.estimate.tensor_parallel

    @property
    def rank_pool_bytes(self) -> int:
        """What is left for the cache on one GPU; nothing if the rest does not fit.

        Examples
        --------
        >>> from helpers import catalog
        >>> llama = CacheEstimate(catalog.model("llama-3.1-70b"))
        >>> ServerPool(llama, 80e9, 141e9).rank_pool_bytes
        0
        """
        left = self.rank_usable_bytes - self.rank_weight_bytes - self.rank_other_bytes
        return max(math.floor(left), 0)

    def users(self, tokens: int) -> int:
        """Users with a context of so many tokens that fit at once."""
        return self.estimate.sequences_that_fit(self.rank_pool_bytes, tokens)
