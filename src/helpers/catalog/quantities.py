"""Units and number formats: the one place where a number meets its unit.

Every value is kept in an SI base unit (FLOP/s, B, B/s, W, s ...) and gets a prefix only when it
is printed. Decimal prefixes (k, M, G: powers of 1000) and binary ones (Ki, Mi, Gi: powers of
1024) are different units here: 80 GB never turns into 80 GiB silently.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

DECIMAL_PREFIXES: dict[str, int] = {
    "p": -12, "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
BINARY_PREFIXES: dict[str, int] = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}

_ALL = frozenset(DECIMAL_PREFIXES)
_UP = frozenset(p for p, power in DECIMAL_PREFIXES.items() if power >= 0)
_DOWN = frozenset(p for p, power in DECIMAL_PREFIXES.items() if power <= 0)
_NONE = frozenset({""})


@dataclass(frozen=True)
class _Symbol:
    """A unit symbol: which base unit it measures in, its size, and the prefixes it takes."""

    base: str
    size: Fraction
    prefixes: frozenset[str]
    binary: bool = False


#: the base units, in the order in which errors list them
BASE_UNITS: tuple[str, ...] = (
    "FLOP", "FLOP/s", "OP", "OP/s", "B", "B/s", "FLOP/B", "OP/B", "s", "Hz", "W", "J", "J/B",
    "token", "token/s", "B/token", "FLOP/token", "J/token", "USD", "USD/h", "USD/token", "param",
    "%", "mm2", "",
)  # fmt: skip


def _table() -> dict[str, _Symbol]:
    one = Fraction(1)
    table = {
        "FLOP": _Symbol("FLOP", one, _UP),
        "FLOP/s": _Symbol("FLOP/s", one, _UP),
        "FLOPS": _Symbol("FLOP/s", one, _UP),  # as spec sheets print the rate
        "OP": _Symbol("OP", one, _UP),
        "OP/s": _Symbol("OP/s", one, _UP),
        "OPS": _Symbol("OP/s", one, _UP),
        "B": _Symbol("B", one, _UP, binary=True),
        "B/s": _Symbol("B/s", one, _UP, binary=True),
        "bit": _Symbol("B", Fraction(1, 8), _UP, binary=True),
        "bit/s": _Symbol("B/s", Fraction(1, 8), _UP, binary=True),
        "FLOP/B": _Symbol("FLOP/B", one, _NONE),
        "OP/B": _Symbol("OP/B", one, _NONE),
        "s": _Symbol("s", one, _DOWN),
        "min": _Symbol("s", Fraction(60), _NONE),
        "h": _Symbol("s", Fraction(3600), _NONE),
        "d": _Symbol("s", Fraction(86400), _NONE),
        "Hz": _Symbol("Hz", one, _UP),
        "W": _Symbol("W", one, _ALL),
        "J": _Symbol("J", one, _ALL),
        "Wh": _Symbol("J", Fraction(3600), _UP),
        "J/B": _Symbol("J/B", one, _DOWN),
        "token": _Symbol("token", one, _UP),
        "tokens": _Symbol("token", one, _NONE),
        "token/s": _Symbol("token/s", one, _NONE),
        "tokens/s": _Symbol("token/s", one, _NONE),
        "tok/s": _Symbol("token/s", one, _NONE),
        "B/token": _Symbol("B/token", one, _UP, binary=True),
        "FLOP/token": _Symbol("FLOP/token", one, _UP),
        "J/token": _Symbol("J/token", one, _ALL),
        "USD": _Symbol("USD", one, _NONE),
        "$": _Symbol("USD", one, _NONE),
        "USD/h": _Symbol("USD/h", one, _NONE),
        "$/h": _Symbol("USD/h", one, _NONE),
        "USD/token": _Symbol("USD/token", one, _NONE),
        "param": _Symbol("param", one, _UP),
        "params": _Symbol("param", one, _NONE),
        "%": _Symbol("%", one, _NONE),
        "mm2": _Symbol("mm2", one, _NONE),
        "": _Symbol("", one, _NONE),
    }
    return table


_SYMBOLS = _table()


@dataclass(frozen=True)
class Unit:
    """A unit with its prefix resolved.

    Attributes
    ----------
    text : str
        As written, for example ``"TB/s"``.
    base : str
        The base unit it measures in, ``"B/s"``.
    size : Fraction
        How many base units one of it is, exactly.
    """

    text: str
    base: str
    size: Fraction


class QuantityError(ValueError):
    """A number or unit that cannot be read; the message says what is allowed."""


def _unit_help(text: str) -> str:
    """Say what was probably meant by a unit that is not in the table."""
    stem = text.strip()
    if re.fullmatch(r"[kMGTPE]?FLOPs", stem):
        p = stem[:-5]
        return f"write {p}FLOP for a count of operations or {p}FLOP/s for a rate"
    if re.fullmatch(r"([kKMGTPE]i?)b(/s|ps)?", stem):
        p = re.match(r"[kKMGTPE]i?", stem)[0]
        rate = "/s" if stem.endswith(("/s", "ps")) else ""
        return f"write {p}bit{rate} for bits or {p}B{rate} for bytes"
    if re.fullmatch(r"[kKMGTPE]i?Bps", stem):
        return f"write {stem[:-2]}/s"
    if stem.startswith("K") and not stem.startswith("Ki"):
        return f"write k{stem[1:]} (1000) or Ki{stem[1:]} (1024)"
    for known in _SYMBOLS:
        if known and stem.lower() == known.lower():
            return f"units are case-sensitive: write {known}"
    folded = [
        prefix + symbol
        for symbol, spec in _SYMBOLS.items()
        for prefix in (*spec.prefixes, *(BINARY_PREFIXES if spec.binary else ()))
        if symbol and (prefix + symbol).lower() == stem.lower()
    ]
    if folded:
        return f"units are case-sensitive: write {' or '.join(sorted(folded))}"
    return (
        "allowed are " + ", ".join(u for u in BASE_UNITS if u)
        + " and bit, bit/s, min, h, d, Wh; with decimal prefixes k M G T P E (powers of 1000),"
        " m u n p below one, and Ki Mi Gi Ti Pi (powers of 1024) for bytes and bits"
    )  # fmt: skip


def parse_unit(text: str) -> Unit:
    """Read a unit such as ``"TB/s"``, ``"GiB"`` or ``"us"``.

    Parameters
    ----------
    text : str
        A base unit with or without a prefix.

    Returns
    -------
    Unit
        Its base unit and exact size.

    Raises
    ------
    QuantityError
        If the unit is unknown or ambiguous, with what to write instead.

    Examples
    --------
    >>> parse_unit("TB/s").base, int(parse_unit("GiB").size)
    ('B/s', 1073741824)
    >>> parse_unit("Gb/s")
    Traceback (most recent call last):
    ...
    helpers.catalog.quantities.QuantityError: unit: 'Gb/s' is not known; write Gbit/s for bits or GB/s for bytes
    """  # noqa: E501
    if not isinstance(text, str):
        raise QuantityError(f"unit: {text!r} is not a string such as 'GB/s'")
    written = text.strip().replace("µ", "u").replace("μ", "u")
    if written in _SYMBOLS:  # a whole symbol wins over prefix + symbol: "min", "d"
        symbol = _SYMBOLS[written]
        return Unit(written, symbol.base, symbol.size)
    for prefix, power in BINARY_PREFIXES.items():
        symbol = _SYMBOLS.get(written.removeprefix(prefix))
        if symbol and symbol.binary and written.startswith(prefix):
            return Unit(written, symbol.base, symbol.size * 2**power)
    for prefix, power in DECIMAL_PREFIXES.items():
        symbol = _SYMBOLS.get(written[len(prefix) :])
        if prefix and written.startswith(prefix) and symbol and prefix in symbol.prefixes:
            return Unit(written, symbol.base, symbol.size * Fraction(10) ** power)
    raise QuantityError(f"unit: {text!r} is not known; {_unit_help(text)}")


class Quantity(float):
    """A float in a base unit that remembers the unit and, if cited, the figure behind it.

    It computes as a plain float: arithmetic gives floats, so a formula needs no special case.

    Parameters
    ----------
    value : float
        The number, in base units.
    unit : str
        A base unit; see ``BASE_UNITS``.
    figure : Figure, optional
        The catalog's record of where the number comes from.

    Examples
    --------
    >>> bandwidth = Quantity(3.35e12, "B/s")
    >>> print(bandwidth)
    3.35 TB/s
    >>> bandwidth / 2
    1675000000000.0
    >>> round(bandwidth.to("GiB/s"), 1)
    3119.9
    """

    __slots__ = ("figure", "unit")

    def __new__(cls, value: float, unit: str, figure: Any = None) -> Quantity:
        if unit not in BASE_UNITS:
            raise QuantityError(
                f"unit: {unit!r} is not a base unit; allowed are {', '.join(BASE_UNITS[:-1])}"
            )
        self = super().__new__(cls, value)
        self.unit = unit
        self.figure = figure
        return self

    def __reduce__(self):
        return (Quantity, (float(self), self.unit, self.figure))

    def to(self, unit: str) -> float:
        """Return the number in another unit of the same kind, as a plain float."""
        return convert(self, unit)

    def __str__(self) -> str:
        if math.isnan(self):
            return "not a number"
        return format_quantity(self, digits=6)

    def __repr__(self) -> str:
        return f"Quantity({float(self)!r}, {self.unit!r})"


_NUMBER = re.compile(
    r"""\s*(?P<number>[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|\.)?(?:[eE][+-]?\d+)?)
        (?:\s*/\s*(?P<over>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?
        \s*(?P<unit>[^\d\s].*?)?\s*""",
    re.VERBOSE,
)


#: the powers of ten that a double reaches; beyond it numbers are slow to hold exactly, too
_EXPONENTS = (-330, 308)


def _exactly(digits: str, text: str) -> Fraction:
    """The number that the digits write, without rounding."""
    try:
        number = Decimal(digits)
    except InvalidOperation as error:
        raise QuantityError(f"value: {text!r} has no digits before its exponent") from error
    smallest, largest = _EXPONENTS
    if number and number.adjusted() > largest:
        raise QuantityError(f"value: {text!r} is larger than any number a computer holds")
    if number and number.adjusted() < smallest:
        return Fraction(0)
    return Fraction(number)


def parse_quantity(text: str | float, expect: str | None = None) -> Quantity:
    """Read a number with a unit.

    Parameters
    ----------
    text : str or float
        Such as ``"3.35 TB/s"``, ``"3.35e12"``, ``"1,555 GB/s"``, ``"1/3"``, ``"80 GiB"``.
    expect : str, optional
        A unit of the kind that is wanted. A number without unit is taken to be in its base
        unit; a unit of another kind is an error.

    Returns
    -------
    Quantity
        In base units, rounded once (the decimal text is scaled exactly).

    Raises
    ------
    QuantityError
        If the text is not a number with a known unit, or of the wrong kind.

    Examples
    --------
    >>> parse_quantity("3.35 TB/s")
    Quantity(3350000000000.0, 'B/s')
    >>> parse_quantity("80 GiB").to("GB")
    85.89934592
    >>> parse_quantity("3.35e12", expect="B/s")
    Quantity(3350000000000.0, 'B/s')
    >>> parse_quantity("5 GB", expect="s")
    Traceback (most recent call last):
    ...
    helpers.catalog.quantities.QuantityError: value: '5 GB' measures B; a value in s is wanted
    """
    if isinstance(text, Quantity):
        text_unit, value = Unit(text.unit, text.unit, Fraction(1)), Fraction(float(text))
    elif isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise QuantityError(f"value: {text!r} is not a number with a unit, such as '3.35 TB/s'")
    elif isinstance(text, (int, float)):
        if not math.isfinite(text):
            raise QuantityError(f"value: {text!r} is not a finite number")
        text_unit, value = None, Fraction(text)
    else:
        written = text.replace("−", "-").replace("\u00a0", " ").replace("\u202f", " ").strip()
        money = written.startswith("$")
        match = _NUMBER.fullmatch(written[1:] if money else written)
        if not match or not re.search(r"\d", match["number"]):
            raise QuantityError(
                f"value: {text!r} is not a number with a unit, such as '3.35 TB/s', '3.35e12'"
                " or '1/3'"
            )
        value = _exactly(match["number"].replace(",", ""), text)
        if match["over"]:
            divisor = _exactly(match["over"], text)
            if divisor == 0:
                raise QuantityError(f"value: {text!r} divides by zero")
            value /= divisor
        unit_text = match["unit"] or ""
        if money:
            unit_text = "USD" + unit_text
        text_unit = parse_unit(unit_text) if unit_text else None
    wanted = parse_unit(expect) if expect is not None else None
    if text_unit is None:
        return Quantity(float(value), wanted.base if wanted else "")
    if wanted and text_unit.base != wanted.base:
        raise QuantityError(
            f"value: {text!r} measures {text_unit.base or 'a plain number'};"
            f" a value in {wanted.text or 'no unit'} is wanted"
        )
    return Quantity(float(value * text_unit.size), text_unit.base)


def convert(value: float, unit: str, base: str | None = None) -> float:
    """Express a value given in base units in ``unit``.

    Parameters
    ----------
    value : float
        In base units.
    unit : str
        The unit wanted, such as ``"GB/s"``.
    base : str, optional
        The base unit of ``value`` where it is a plain float; checked against ``unit``.

    Returns
    -------
    float

    Raises
    ------
    QuantityError
        If the two do not measure the same thing.

    Examples
    --------
    >>> convert(140e9, "GB"), round(convert(140e9, "GiB"), 4)
    (140.0, 130.3852)
    """
    target = parse_unit(unit)
    have = getattr(value, "unit", base)
    if have is not None and have != target.base:
        raise QuantityError(f"unit: {unit!r} measures {target.base}, but the value is in {have}")
    number = _real(value)
    if not math.isfinite(number):
        return number
    return float(Fraction(number) / target.size)


def _real(value: Any) -> float:
    """A value as a plain float, if it is a number."""
    if isinstance(value, (str, bool)) or value is None:
        raise QuantityError(f"value: {value!r} is not a number")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise QuantityError(f"value: {value!r} is not one number") from None
    except OverflowError:
        raise QuantityError("value: it is larger than any number a computer holds") from None


def format_number(value: float, digits: int | None = 3, decimals: int | None = None) -> str:
    """Print a number with thousands separators.

    Parameters
    ----------
    value : float
        Any number.
    digits : int or None
        Significant digits at most; trailing zeros are dropped. Digits left of the decimal
        point are never rounded away below 1,000,000.
    decimals : int, optional
        Exactly so many decimals instead.

    Returns
    -------
    str

    Examples
    --------
    >>> format_number(153.01618440412), format_number(1979.0), format_number(0.0833333)
    ('153', '1,979', '0.0833')
    >>> format_number(3.0, decimals=2)
    '3.00'
    """
    number = _real(value)
    if not math.isfinite(number):
        return {math.inf: "∞", -math.inf: "-∞"}.get(number, "not a number")
    if decimals is not None:
        if not isinstance(decimals, int) or decimals < 0:
            raise QuantityError(f"decimals: {decimals!r} is not a whole number >= 0")
        text = f"{number:,.{decimals}f}"
        return text.removeprefix("-") if not float(text.replace(",", "")) else text
    if not isinstance(digits, int) or digits < 1:
        raise QuantityError(f"digits: {digits!r} is not a whole number >= 1")
    if number == 0:
        return "0"
    rounded = float(f"{number:.{digits}g}")
    magnitude = math.floor(math.log10(abs(rounded)))
    if abs(rounded) >= 1e21 or abs(rounded) < 1e-6:
        mantissa, exponent = f"{number:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    # below a million no digit left of the point is lost: 1,979 at three digits stays 1,979
    shown = number if magnitude < 6 else rounded
    text = f"{shown:,.{max(digits - 1 - magnitude, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_quantity(
    value: float,
    unit: str | None = None,
    digits: int | None = 3,
    *,
    decimals: int | None = None,
    prefix: str | None = None,
) -> str:
    """Print a value given in base units with its unit.

    Parameters
    ----------
    value : float
        In base units; a ``Quantity`` brings its unit.
    unit : str, optional
        Asked-for unit. With a prefix ("GB", "GiB", "ms") it is used as it stands; a bare base
        unit ("B/s") gets the decimal prefix that leaves one to three digits before the point.
    digits : int
        Significant digits at most.
    decimals : int, optional
        Exactly so many decimals instead of significant digits.
    prefix : str, optional
        Force a prefix on a base unit; ``""`` for none.

    Returns
    -------
    str

    Raises
    ------
    QuantityError
        If the value is no number or not a number (NaN), a plain float comes without a unit, or the
        unit does not fit the quantity.

    Examples
    --------
    >>> format_quantity(3.35e12, "B/s")
    '3.35 TB/s'
    >>> format_quantity(3.35e12, "GB/s"), format_quantity(85899345920, "GiB")
    ('3,350 GB/s', '80 GiB')
    >>> format_quantity(0.0000042, "s"), format_quantity(153.016, "FLOP/B", decimals=1)
    ('4.2 µs', '153.0 FLOP/B')
    """
    if decimals is None and (not isinstance(digits, int) or digits < 1):
        raise QuantityError(f"digits: {digits!r} is not a whole number >= 1")
    have = getattr(value, "unit", None)
    if unit is None:
        if have is None:
            raise QuantityError(
                f"unit: a plain number ({value!r}) needs one; give unit='B/s' or the like"
            )
        unit = have
    if prefix is not None:
        unit = prefix + unit
    target = parse_unit(unit)
    if have is not None and have != target.base:
        raise QuantityError(f"unit: {unit!r} measures {target.base}, but the value is in {have}")
    number = _real(value)
    if math.isnan(number):
        raise QuantityError(
            f"value: {value!r} is not a number, so it has no {target.base or 'size'}"
        )
    if prefix is None and target.text in _SYMBOLS and math.isfinite(number):
        target = _fitting(target, number, digits if decimals is None else 15)
    shown = float(Fraction(number) / target.size) if math.isfinite(number) else number
    text = format_number(shown, digits, decimals)
    symbol = target.text
    if symbol.startswith("u") and symbol not in _SYMBOLS:
        symbol = "µ" + symbol[1:]
    return f"{text}{'' if symbol == '%' else ' '}{symbol}".rstrip()


def _fitting(unit: Unit, number: float, digits: int | None) -> Unit:
    """Choose the decimal prefix that leaves one to three digits before the point."""
    allowed = _SYMBOLS[unit.text].prefixes
    if number == 0 or len(allowed) == 1:
        return unit
    shown = abs(float(Fraction(number) / unit.size))
    shown = float(f"{shown:.{digits or 15}g}")  # 999.96 at three digits is 1.00 of the next
    choices = sorted((DECIMAL_PREFIXES[p], p) for p in allowed)
    best = choices[0][1]
    for power, candidate in choices:
        if shown >= 10.0**power * (1 - 1e-12):
            best = candidate
    return parse_unit(best + unit.text)
