"""Read what an inference server prints about its KV cache when it starts: vLLM's three numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from numbers import Real
from typing import Any

from .checks import check_whole

__all__ = ["StartupLog", "as_printed", "read_startup_log", "rounded"]

#: decimals with which the server prints GiB and the concurrency
DECIMALS = 2
#: beyond it, bytes are no longer exact in a float, which is what the server rounds
LARGEST = 1_000_000


@dataclass(frozen=True)
class StartupLog:
    """What a server printed about its cache.

    Parameters
    ----------
    available_gib : str or number
        Memory left for the cache on each rank, GiB with at most two decimals.
    tokens : int
        Tokens that the cache holds.
    request_tokens : int
        Longest allowed request.
    concurrency : str or number
        Requests of that length that fit, with at most two decimals.
    """

    available_gib: Decimal
    tokens: int
    request_tokens: int
    concurrency: Decimal

    def __post_init__(self):
        for name in ("tokens", "request_tokens"):
            object.__setattr__(self, name, check_whole(name, getattr(self, name)))
        for name in ("available_gib", "concurrency"):
            object.__setattr__(self, name, as_printed(name, getattr(self, name)))


_LINES = {
    "available_gib": r"Available KV cache memory: ([\d,]+\.\d+) GiB",
    "tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "request_tokens": r"Maximum concurrency for ([\d,]+) tokens per request",
    "concurrency": r"tokens per request: ([\d,]+\.\d+)x",
}


def read_startup_log(text: str) -> StartupLog:
    """Find the three numbers in a server's log.

    Parameters
    ----------
    text : str
        The log, with whatever else it holds. If ranks printed different memories, the smallest
        counts: all ranks keep the same blocks.

    Raises
    ------
    TypeError
        If it is no text.
    ValueError
        If a line is missing, or stands there with different numbers (of several servers).

    Examples
    --------
    >>> log = read_startup_log('''
    ... INFO Available KV cache memory: 57.41 GiB
    ... INFO GPU KV cache size: 470,288 tokens
    ... INFO Maximum concurrency for 8,192 tokens per request: 57.41x
    ... ''')
    >>> log.tokens, log.request_tokens
    (470288, 8192)
    """
    if not isinstance(text, str):
        raise TypeError(f"text: {text!r}; allowed is the text of a log")
    found = {}
    for name, pattern in _LINES.items():
        values = {Decimal(value.replace(",", "")) for value in re.findall(pattern, text)}
        if not values:
            raise ValueError(f"text: no line like {pattern!r}; allowed is a log that has one")
        if len(values) > 1 and name != "available_gib":
            raise ValueError(
                f"text: {name} stands there as {', '.join(map(str, sorted(values)))}; allowed is"
                " the log of one server"
            )
        found[name] = min(values)
    return StartupLog(
        found["available_gib"],
        int(found["tokens"]),
        int(found["request_tokens"]),
        found["concurrency"],
    )


def rounded(number: float) -> Decimal:
    """Round as the server prints.

    Examples
    --------
    >>> rounded(470_288 / 8192)
    Decimal('57.41')
    """
    return Decimal(f"{number:.{DECIMALS}f}")


def as_printed(name: str, value: Any) -> Decimal:
    """Return a printed number with all its decimals.

    Parameters
    ----------
    name : str
        The argument, for the message.
    value : str or number
        As it stands in the log.

    Raises
    ------
    ValueError
        If it is no such number, or has more decimals than are printed.

    Examples
    --------
    >>> as_printed("available_gib", 55.2)
    Decimal('55.20')
    """
    number = _decimal(value)
    unit = Decimal(1).scaleb(-DECIMALS)
    if not (number.is_finite() and 0 < number < LARGEST and number % unit == 0):
        raise ValueError(
            f"{name}: {value!r}; allowed is a number above 0 and below {LARGEST:,} as the server"
            f" prints it, with at most {DECIMALS} decimals"
        )
    return number.quantize(unit)


def _decimal(value: Any) -> Decimal:
    """The value with the digits that it is written with, or not a number."""
    if isinstance(value, Real) and not isinstance(value, bool):
        value = repr(float(value))
    if isinstance(value, (str, Decimal)):
        try:
            return Decimal(value)
        except InvalidOperation:
            pass
    return Decimal("nan")
