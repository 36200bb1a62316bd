"""Read a number as a reader types it, and say what is wrong with it.

``answers.js`` says the same in the browser; the tests hold the two together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Literal

from helpers.catalog.quantities import parse_quantity

from .values import show_number, unit_scale

#: ratio to the answer -> what was probably mixed up; tried in this order
FACTORS: tuple[tuple[float, str], ...] = (
    (1e3, "check the prefix."),
    (1e6, "check the prefix."),
    (1e9, "check the prefix."),
    (1.024, "KB or KiB?"),
    (1.024**2, "MB or MiB?"),
    (1.024**3, "GB or GiB?"),
    (1.024**4, "TB or TiB?"),
    (8, "bits or bytes?"),
    (2, "dense or sparse, one way or both, one or two operations for a multiply and an add?"),
)

#: how people write numbers and units -> how we do; the browser has the same list
WORDS: tuple[tuple[str, str], ...] = (
    (r"^(?:about|around|roughly|some|~|≈)\s*", ""),
    (r"per ?cent\b", "%"),
    (r"\s+per\s+", "/"),
    (r"FLOPs\b", "FLOP"),
    (r"\bbytes?\b", "B"),
    (r"\bmilliseconds?\b", "ms"),
    (r"\bmicroseconds?\b", "us"),
    (r"\bseconds?\b", "s"),
    (r"(?<=\d)\s*(?:x|times|fold)$", ""),
)
#: after a plain number a noun is no unit: "35 chips"; but "35 million" is another number
NOUN = r"(?<=\d)\s+(?!hundred|thousand|million|billion|trillion)[a-z]{4,}$"

#: "33,3" but not "1,024": a comma that stands where we write a point
_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]+)(?![0-9,.])(.*)")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")

_POWER = re.compile(
    r"(?P<base>\d+(?:\.\d+)?)\s*(?:\^|\*\*)\s*(?P<power>[+-]?\d{1,4})(?P<unit>[^\d.].*)?"
)
_TIMES = re.compile(
    r"(?P<number>.*?\d\.?)\s*[x*×·]\s*10\s*(?:\^|\*\*)\s*(?P<power>[+-]?\d{1,3})(?P<rest>[^\d.].*)?"
)


@dataclass(frozen=True)
class Reading:
    """A number as we understood it: in base units, and whether it came without a unit."""

    value: float
    base: str
    bare: bool


def read_answer(text: str, unit: str) -> Reading:
    """Read a typed answer to a question whose answer is shown in ``unit``.

    Parameters
    ----------
    text : str
        Such as ``3.35 TB/s``, ``3.35e12``, ``3.35 x 10^12``, ``2^30``, ``1/3``, ``1,024``, ``5%``.
    unit : str
        Any unit of the kind wanted.

    Returns
    -------
    Reading

    Raises
    ------
    ValueError
        If it is empty, no number, of an unknown unit, or of another kind.

    Examples
    --------
    >>> read_answer("3.35 TB/s", "GB/s")
    Reading(value=3350000000000.0, base='B/s', bare=False)
    >>> read_answer("2^30", "B")
    Reading(value=1073741824.0, base='B', bare=True)
    >>> read_answer("5%", "")
    Reading(value=0.05, base='', bare=False)
    >>> read_answer("3,35 TB/s", "TB/s")
    Traceback (most recent call last):
        ...
    ValueError: '3,35 TB/s' has a comma; write 3.35 TB/s: a point, not a comma.
    """
    base, _ = unit_scale(unit)
    written = re.sub(r"[\u00a0\u202f]", " ", str(text)).replace("−", "-").strip()
    for pattern, ours in [*WORDS, *([] if base else [(NOUN, "")])]:
        written = re.sub(pattern, ours, written)
    if not written:
        raise ValueError("Type a number first.")
    if re.search(r"e[+-]?\d{4}", written, re.IGNORECASE):
        raise ValueError(f"'{text}' is too large or too small a number.")
    power = 1.0
    if match := _POWER.fullmatch(written):
        try:
            power = float(match["base"]) ** int(match["power"])
        except ArithmeticError:
            raise ValueError(f"'{text}' is too large a number, or divides by zero.") from None
        written = "1" + (match["unit"] or "")
    elif match := _TIMES.fullmatch(written):
        written = f"{match['number']}e{int(match['power'])}{match['rest'] or ''}"
    if (match := _COMMA.fullmatch(written)) and not _THOUSANDS.fullmatch(f"{match[1]},{match[2]}"):
        point = f"{match[1]}.{match[2]}{match[3]}"
        raise ValueError(f"'{str(text).strip()}' has a comma; write {point}: a point, not a comma.")
    try:
        quantity = parse_quantity(written)
    except ArithmeticError:
        raise ValueError(f"'{text}' is not a number we can hold.") from None
    value, have = float(quantity) * power, quantity.unit
    if have == "%":
        value, have = value / 100, ""
        bare = False
    else:
        bare = have == ""
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is too large a number.")
    if have != base and not bare:
        raise ValueError(f"'{written}' measures {have or 'a plain number'}; {wanted(unit)}")
    if base and not have and not bare:
        raise ValueError(f"'{written}' has no unit; {wanted(unit)}")
    return Reading(value, base, bare)


def wanted(unit: str) -> str:
    """What kind of answer is wanted, in words."""
    return f"this answer is in {unit}." if unit else "this answer is a plain number."


@dataclass(frozen=True)
class Verdict:
    """What we say about a number.

    Attributes
    ----------
    state : str
        ``right``, ``wrong``, or ``retry``: not counted, since only the unit is missing.
    message : str
        What is off, or how a bare number was read; empty for a common error.
    error : int or None
        Which of the question's common errors it is.
    """

    state: Literal["right", "wrong", "retry"]
    message: str = ""
    error: int | None = None


def judge(
    reading: Reading,
    answer: float,
    unit: str,
    relative: float,
    absolute: float,
    errors: Sequence[float] = (),
) -> Verdict:
    """Compare a reading with the answer.

    Parameters
    ----------
    reading : Reading
        From :func:`read_answer`.
    answer : float
        In base units.
    unit : str
        The unit in which the answer is shown.
    relative, absolute : float
        The tolerance is ``relative * abs(answer) + absolute``.
    errors : sequence of float
        Wrong values that are recognised.

    Examples
    --------
    >>> judge(read_answer("295", "FLOP/B"), 295.3, "FLOP/B", 0.02, 0).state
    'right'
    >>> judge(read_answer("3.35", "TB/s"), 3.35e12, "TB/s", 0.02, 0)
    Verdict(state='right', message='Read as 3.35 TB/s.', error=None)
    >>> judge(read_answer("4", "TB/s"), 3.35e12, "TB/s", 0.02, 0).message
    'Read as 4 B/s. Did you mean 4 TB/s? Write the unit with the number.'
    >>> judge(read_answer("42 GB/s", "TB/s"), 3.35e12, "TB/s", 0.02, 0).message
    'Too low, by a factor of 80.'
    """
    value = reading.value

    def near(other: float, at_least: float = 0.0) -> bool:
        slack = max(relative, at_least) * abs(other) + absolute
        return abs(value - other) <= slack * (1 + 1e-9)

    if near(answer):
        return Verdict("right")
    _, scale = unit_scale(unit)
    meant = f"{plain(value)}{'' if unit == '%' else ' '}{unit}"
    forgot = Verdict(
        "retry", f"Read as {said(reading)}. Did you mean {meant}? Write the unit with the number."
    )
    bare = reading.bare and scale != 1
    if bare and abs(value * scale - answer) <= (relative * abs(answer) + absolute) * (1 + 1e-9):
        return Verdict("right", f"Read as {meant}.")  # in the unit that the question shows
    for i, error in enumerate(errors):
        if near(error, 0.005):
            return Verdict("wrong", error=i)
    if answer > 0 and value <= 0:
        return Verdict("wrong", "The answer is above zero.")
    if answer == 0 or value / answer <= 0:
        return Verdict("wrong", "Too high." if value > answer else "Too low.")
    ratio = value / answer
    size = max(ratio, 1 / ratio)
    if bare and size > 999 and 0.01 < ratio * scale < 100:
        return forgot
    for factor, mixed_up in FACTORS:
        if "iB" in mixed_up and not reading.base.startswith("B"):
            continue  # 2.4% off is a mix-up of KB and KiB only where bytes are counted
        if abs(size / factor - 1) <= 0.005:
            return Verdict("wrong", f"Off by a factor of {plain(factor, 4)}: {mixed_up}")
    if abs(value * answer - 1) <= 0.005:
        return Verdict("wrong", "Upside down: you divided the other way round.")
    direction = "high" if ratio > 1 else "low"
    if size > 999:
        off = f"{plain(math.log10(size), 1)} powers of ten"
    else:
        off = f"a factor of {plain(size, 2 if size >= 2 else 3)}"
    return Verdict("wrong", f"Too {direction}, by {off}.")


def plain(value: float, digits: int = 6) -> str:
    """A number with at most so many significant digits: ``295.3``, ``3.35e12``.

    Examples
    --------
    >>> plain(3.35e12), plain(295.343), plain(1 / 3), plain(2e-6)
    ('3.35e12', '295.343', '0.333333', '2e-6')
    """
    if value == 0:
        return "0"
    rounded = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal(Decimal(value))
    exponent = rounded.adjusted()
    if -5 < exponent < 6:
        text = f"{rounded:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa = f"{rounded.scaleb(-exponent):f}"
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{exponent}"


def said(reading: Reading) -> str:
    """What we understood, in base units."""
    return f"{plain(reading.value)} {reading.base}".rstrip()


def miss(guess: float, answer: float) -> str:
    """How far a guess is off, in powers of two and in words.

    Examples
    --------
    >>> miss(200, 208), miss(52, 208)
    ('on the spot', '2.0 powers of two too low, a factor of 4')
    """
    powers = math.log2(guess / answer)
    if abs(powers) < 0.1:
        return "on the spot"
    direction = "high" if powers > 0 else "low"
    factor = 2 ** abs(powers)
    one = f"{abs(powers):.1f}"
    noun = "power" if one == "1.0" else "powers"
    return f"{one} {noun} of two too {direction}, a factor of {plain(factor, 2)}"


__all__ = ["Reading", "Verdict", "judge", "miss", "plain", "read_answer", "said", "show_number"]
