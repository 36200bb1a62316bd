"""Predict what an inference server says about its KV cache when it starts.

vLLM prints three numbers: the memory that is left for the cache on a rank, in GiB with two
decimals; the tokens that the cache holds; and how many requests of the longest allowed length that
makes. The second and the third follow from the first. But the first is rounded, so what follows is
not one count of tokens but all those that print the same: an interval, in steps of a block. A
printed count outside of it shows that the server caches something else than we think.

What holds: every caching layer keeps all tokens. For windows and for stacks of several kinds
servers share blocks between layers in ways that differ from version to version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from .checks import check_whole
from .kv_cache import sequences_that_fit
from .kv_estimate import CacheEstimate
from .kv_startup_log import DECIMALS, StartupLog, as_printed, read_startup_log, rounded

__all__ = ["StartupLog", "StartupPrediction", "read_startup_log"]

GIB = 2**30


@dataclass(frozen=True)
class StartupPrediction:
    """All that a server may print about its cache, given the GiB that it printed.

    Parameters
    ----------
    estimate : CacheEstimate
        The model in the server's element format, block size and tensor parallelism.
    available_gib : str or number
        Memory left for the cache on each rank, as printed: GiB with at most two decimals.
    request_tokens : int
        Longest allowed request, prompt and answer: a multiple of the block size.

    Raises
    ------
    TypeError
        If the estimate is no :class:`CacheEstimate`.
    ValueError
        If a number is out of range, was not rounded as the server rounds, or a layer has a window.

    Examples
    --------
    >>> from helpers import catalog
    >>> mistral = CacheEstimate(catalog.model("mistral-7b-v0.3"), block_size=16)
    >>> predicted = StartupPrediction(mistral, "57.41", request_tokens=8192)
    >>> print(predicted)
    Available KV cache memory: 57.41 GiB
    GPU KV cache size: 470,256 to 470,336 tokens, 16 apart
    Maximum concurrency for 8,192 tokens per request: 57.40x to 57.41x
    >>> 470_288 in predicted.tokens, 470_289 in predicted.tokens
    (True, False)
    """

    estimate: CacheEstimate
    available_gib: Decimal
    request_tokens: int

    def __post_init__(self):
        if not isinstance(self.estimate, CacheEstimate):
            raise TypeError(f"estimate: {self.estimate!r}; allowed is a CacheEstimate")
        for layer in self.estimate.layout.kinds():
            if layer.window is not None:
                raise ValueError(
                    f"estimate: a layer of {self.estimate.layout.name} has a window of"
                    f" {layer.window:,} tokens; allowed are layers that keep every token, as in"
                    " layout_of(model, windowed=False)"
                )
        object.__setattr__(self, "available_gib", as_printed("available_gib", self.available_gib))
        tokens = check_whole("request_tokens", self.request_tokens)
        if tokens % self.estimate.block_size:
            raise ValueError(
                f"request_tokens: {tokens}; allowed is a multiple of the"
                f" {self.estimate.block_size} tokens of a block: versions of the server differ in"
                " how they count the rest"
            )
        object.__setattr__(self, "request_tokens", tokens)

    @property
    def available_bytes(self) -> tuple[int, int]:
        """Fewest and most bytes on a rank that print these GiB."""
        half = Fraction(1, 2 * 10**DECIMALS)
        low = math.ceil((Fraction(self.available_gib) - half) * GIB)
        high = math.floor((Fraction(self.available_gib) + half) * GIB)
        # a tie goes to the even digit, so it may belong to the neighbour
        return low + (not self._prints(low)), high - (not self._prints(high))

    @property
    def tokens(self) -> range:
        """Counts of tokens that the server may print; ask with ``in``."""
        size, block = self.estimate.rank_bytes_per_token, self.estimate.block_size
        low, high = (sequences_that_fit(free, size, block) for free in self.available_bytes)
        return range(low * block, high * block + 1, block)

    def concurrency(self, tokens: int) -> float:
        """Requests of the longest length that some tokens of cache hold.

        Parameters
        ----------
        tokens : int
            Of the cache, a multiple of the block size.

        Examples
        --------
        >>> from helpers import catalog
        >>> llama = CacheEstimate(catalog.model("llama-3.1-8b"), block_size=16)
        >>> ratio = StartupPrediction(llama, "55.20", request_tokens=8192).concurrency(452_192)
        >>> f"{ratio:.2f}x, so {int(ratio)} whole requests"
        '55.20x, so 55 whole requests'
        """
        tokens, block = check_whole("tokens", tokens, 0), self.estimate.block_size
        if tokens % block:
            raise ValueError(
                f"tokens: {tokens}; allowed is a multiple of the {block} tokens of a block"
            )
        return tokens / self.request_tokens

    def compare(self, log: StartupLog) -> list[tuple[str, str, str, bool]]:
        """Set beside each other what was predicted and what a server printed.

        Parameters
        ----------
        log : StartupLog
            From :func:`read_startup_log`.

        Returns
        -------
        list of (str, str, str, bool)
            The quantity, the prediction, the printed value, and whether it lies within.

        Raises
        ------
        TypeError
            If the log is something else.
        ValueError
            If the log was written for another memory or another length of requests.

        Examples
        --------
        >>> from helpers import catalog
        >>> llama = CacheEstimate(catalog.model("llama-3.1-70b"), "bf16", 16, tensor_parallel=2)
        >>> log = StartupLog("3.93", tokens=25_728, request_tokens=8192, concurrency="3.14")
        >>> for row in StartupPrediction(llama, "3.93", 8192).compare(log):
        ...     print(row)
        ('tokens', '25,712 to 25,776', '25,728', True)
        ('concurrency', '3.14 to 3.15', '3.14', True)
        """
        if not isinstance(log, StartupLog):
            raise TypeError(f"log: {log!r}; allowed is a StartupLog, from read_startup_log(text)")
        for name in ("available_gib", "request_tokens"):
            if getattr(log, name) != getattr(self, name):
                raise ValueError(
                    f"log: has {name} {getattr(log, name)}; allowed is {getattr(self, name)}, for"
                    " which this was predicted"
                )
        low, high = self.tokens[0], self.tokens[-1]
        ratios = [rounded(self.concurrency(tokens)) for tokens in (low, high)]
        return [
            ("tokens", f"{low:,} to {high:,}", f"{log.tokens:,}", log.tokens in self.tokens),
            (
                "concurrency",
                f"{ratios[0]} to {ratios[1]}",
                f"{log.concurrency}",
                ratios[0] <= log.concurrency <= ratios[1],
            ),
        ]

    def __str__(self) -> str:
        low, high = self.tokens[0], self.tokens[-1]
        few, many = (rounded(self.concurrency(tokens)) for tokens in (low, high))
        return (
            f"Available KV cache memory: {self.available_gib} GiB\n"
            f"GPU KV cache size: {low:,} to {high:,} tokens, {self.estimate.block_size} apart\n"
            f"Maximum concurrency for {self.request_tokens:,} tokens per request:"
            f" {few}x to {many}x"
        )

    def _prints(self, nbytes: int) -> bool:
        return rounded(nbytes / GIB) == self.available_gib
