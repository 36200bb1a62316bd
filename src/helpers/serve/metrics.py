"""What is measured of each request: when it came, waited, spoke first, and how steadily it went on.

All times are seconds on the engine's clock. TTFT is the time to the first token, ITL the latency
between one token and the next, TPOT the mean time per output token after the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestMetrics:
    """The times and counts of one request.

    Examples
    --------
    >>> m = RequestMetrics(arrival_s=1.0, prompt_tokens=5, admitted_s=1.5,
    ...                    token_times_s=[2.0, 2.25, 2.75], finished_s=2.75)
    >>> m.queue_s, m.ttft_s, m.itl_s, m.tpot_s
    (0.5, 1.0, [0.25, 0.5], 0.375)
    """

    arrival_s: float
    prompt_tokens: int = 0
    admitted_s: float | None = None  # first admission; a later one does not change it
    token_times_s: list[float] = field(default_factory=list)
    finished_s: float | None = None
    preemptions: int = 0
    prefix_hit_tokens: int = 0  # prompt tokens found in the cache at the first admission
    discarded_tokens: int = 0  # computed tokens whose blocks preemptions took

    @property
    def tokens(self) -> int:
        """Generated tokens."""
        return len(self.token_times_s)

    @property
    def queue_s(self) -> float | None:
        """From arrival to first admission."""
        return None if self.admitted_s is None else self.admitted_s - self.arrival_s

    @property
    def ttft_s(self) -> float | None:
        """From arrival to the first token."""
        return self.token_times_s[0] - self.arrival_s if self.token_times_s else None

    @property
    def itl_s(self) -> list[float]:
        """From each token to the next: one fewer than there are tokens."""
        times = self.token_times_s
        return [after - before for before, after in itertools.pairwise(times)]

    @property
    def tpot_s(self) -> float | None:
        """Mean time per token after the first; unknown for fewer than two."""
        times = self.token_times_s
        return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None

    @property
    def latency_s(self) -> float | None:
        """From arrival to the end."""
        return None if self.finished_s is None else self.finished_s - self.arrival_s

    def to_dict(self) -> dict:
        """All figures as plain values, for a table or a file."""
        return {
            "arrival_s": self.arrival_s,
            "queue_s": self.queue_s,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "itl_s": self.itl_s,
            "latency_s": self.latency_s,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "preemptions": self.preemptions,
            "prefix_hit_tokens": self.prefix_hit_tokens,
            "discarded_tokens": self.discarded_tokens,
        }


def tokens_per_s(metrics: Iterable[RequestMetrics]) -> float:
    """Generated tokens of all requests, by the time from the first arrival to the last end.

    Examples
    --------
    >>> one = RequestMetrics(arrival_s=0.0, token_times_s=[1.0, 2.0], finished_s=2.0)
    >>> two = RequestMetrics(arrival_s=1.0, token_times_s=[3.0, 4.0], finished_s=4.0)
    >>> tokens_per_s([one, two])
    1.0
    """
    done = [m for m in metrics if m.finished_s is not None]
    if not done:
        raise ValueError("metrics: no request has finished")
    wall_s = max(m.finished_s for m in done) - min(m.arrival_s for m in done)
    return sum(m.tokens for m in done) / wall_s if wall_s > 0 else float("inf")
