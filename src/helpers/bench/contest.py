"""Time two ways to the same tokens in turns.

A machine that slows down for a while then slows both, and the ratio of each pair of samples says
more than two times taken one after the other.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from helpers.bench.timing import Measurement, quantile, round_significant


class Contest(BaseModel):
    """Two ways to the same tokens, timed in turns.

    Attributes
    ----------
    name : str
        What was compared.
    tokens : int
        Tokens that each way generated in one call.
    ours, other : Measurement
        Seconds per call; sample ``i`` of one was taken right beside sample ``i`` of the other.
    wanted : float
        Ratio that the engine should reach.

    Examples
    --------
    >>> contest = Contest(name="x", tokens=10, wanted=1.5,
    ...                   ours=Measurement(name="fast", samples_s=(1.0, 2.0, 1.0)),
    ...                   other=Measurement(name="slow", samples_s=(2.0, 5.0, 1.8)))
    >>> contest.ratios, contest.ratio, contest.tokens_per_s
    ((2.0, 2.5, 1.8), 2.0, (10.0, 5.0))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tokens: int = Field(ge=1)
    ours: Measurement
    other: Measurement
    wanted: float = Field(gt=0)

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times faster ours was, pair by pair."""
        pairs = zip(self.ours.samples_s, self.other.samples_s, strict=True)
        return tuple(other / ours for ours, other in pairs)

    @property
    def ratio(self) -> float:
        """Median of the ratios."""
        return quantile(self.ratios, 0.5)

    @property
    def tokens_per_s(self) -> tuple[float, float]:
        """Median rate of ours and of the other."""
        return self.tokens / self.ours.median_s, self.tokens / self.other.median_s

    def __str__(self) -> str:
        ours, other = self.tokens_per_s
        return (
            f"{self.name}: {self.ours.name} {ours:,.0f} token/s, {self.other.name} {other:,.0f}"
            f" token/s, ratio {self.ratio:.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f},"
            f" {len(self.ratios)} samples; wanted {self.wanted})"
        )


def contest(
    name: str,
    ours: tuple[str, Callable[[], int]],
    other: tuple[str, Callable[[], int]],
    *,
    wanted: float,
    samples: int = 5,
) -> Contest:
    """Time two ways in turns, the first of each pair changing from pair to pair.

    Parameters
    ----------
    name : str
    ours, other : tuple of str and callable
        Name and call; the call returns how many tokens it generated.
    wanted : float
    samples : int
        At least 1; each is one call, for such a call lasts long enough for any clock.

    Raises
    ------
    ValueError
        If the two did not generate the same number of tokens.
    """
    import torch

    times: tuple[list[float], list[float]] = ([], [])
    counts = set()
    gc.collect()
    for turn in range(samples + 1):  # the first is to warm up, and is not kept
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            counts.add((ours, other)[which][1]())
            if turn:
                times[which].append(round_significant(time.perf_counter() - start))
    if len(counts) != 1:
        raise ValueError(f"{name}: the calls generated different numbers of tokens: {counts}")
    threads = torch.get_num_threads()
    first, second = (
        Measurement(name=way, samples_s=tuple(seconds), threads=threads)
        for (way, _), seconds in zip((ours, other), times, strict=True)
    )
    return Contest(name=name, tokens=counts.pop(), ours=first, other=second, wanted=wanted)
