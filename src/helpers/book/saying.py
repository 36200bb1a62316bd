"""Numbers as the pages print them, and handed to the page in one call."""

from __future__ import annotations

from helpers.book.glue import glue
from helpers.catalog import format_quantity

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def say(value: float, unit: str, digits: int = 3) -> str:
    """A number with its unit, its prefix chosen, never broken over two lines.

    Examples
    --------
    >>> say(0.0000123, "s"), say(16_060_522_496, "B")
    ('12.3\\xa0µs', '16.1\\xa0GB')
    """
    return format_quantity(value, unit, digits).replace(" us", " µs").replace(" ", "\u00a0")


def big(value: float, unit: str) -> str:
    """A number far above the prefixes.

    Examples
    --------
    >>> big(7.2e23, "FLOP")
    '7.2 × 10²³ FLOP'
    """
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)} {unit}"


def percent(share: float, decimals: int = 0) -> str:
    """A share in per cent.

    Examples
    --------
    >>> percent(0.123), percent(0.123, 1)
    ('12%', '12.3%')
    """
    return f"{share:.{decimals}%}"


def publish(**values: object) -> None:
    """Hand values to the page that shows them, and print them in the notebook."""
    for key, value in values.items():
        glue(key, str(value))
    # after all of them: a line between two hand-overs would be an output, and a box, of its own
    print("\n".join(f"{key:22} {value}" for key, value in values.items()))
