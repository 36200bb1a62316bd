"""A straight line through measured times, and what a whole answer takes along it.

Noise on a computer is one-sided, and a single disturbed point pulls a least-squares line towards
itself. The median of the slopes between all pairs of points does not move unless a quarter of the
points is disturbed (Theil, 1950; Sen, 1968).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from helpers.bench.timing import quantile


@dataclass(frozen=True)
class Line:
    """Seconds of one more token, ``a + b t``, behind a text of ``t`` tokens.

    Attributes
    ----------
    a : float
        Seconds that do not depend on the text's length.
    b : float
        Seconds for each token of the text.

    Examples
    --------
    >>> Line(a=2.0, b=0.5).at(10)
    7.0
    """

    a: float
    b: float

    def at(self, tokens: float) -> float:
        """Seconds of the next token behind a text of this length."""
        return self.a + self.b * tokens

    def total(self, prompt: int, tokens: int) -> float:
        """Seconds of an answer: its token ``i`` stands behind ``prompt + i`` others.

        Parameters
        ----------
        prompt : int
            Tokens before the answer.
        tokens : int
            Tokens of the answer.

        Examples
        --------
        >>> line = Line(a=2.0, b=0.5)
        >>> line.total(prompt=10, tokens=3), line.at(10) + line.at(11) + line.at(12)
        (22.5, 22.5)
        """
        for name, value, least in (("prompt", prompt, 0), ("tokens", tokens, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: {value!r} is not a whole number of at least {least}")
        return self.a * tokens + self.b * (prompt * tokens + tokens * (tokens - 1) / 2)


def fit_line(tokens: Sequence[float], seconds: Sequence[float]) -> Line:
    """The line whose slope is the median of all slopes between two points.

    Parameters
    ----------
    tokens : sequence of float
        Lengths of the text, no two alike.
    seconds : sequence of float
        Time of the next token behind each.

    Raises
    ------
    ValueError
        If there are fewer than two points, lengths that are alike, or a value that is not finite.

    Examples
    --------
    One point of five is disturbed, and the line does not care:

    >>> fit_line([0, 1, 2, 3, 4], [2.0, 2.5, 9.0, 3.5, 4.0])
    Line(a=2.0, b=0.5)
    """
    points = list(zip(tokens, seconds, strict=True))
    if len(points) < 2:
        raise ValueError(f"tokens: {len(points)} points; a line needs two or more")
    if len({x for x, _ in points}) < len(points):
        raise ValueError("tokens: two of them are alike; allowed is each length once")
    if not all(math.isfinite(value) for point in points for value in point):
        raise ValueError("seconds: a value is not finite")
    b = quantile([(v - y) / (u - x) for (x, y), (u, v) in combinations(points, 2)], 0.5)
    return Line(a=quantile([y - b * x for x, y in points], 0.5), b=b)
