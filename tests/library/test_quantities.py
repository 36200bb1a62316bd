"""Units and number formats."""

import copy
import math
import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.catalog.quantities import (
    BASE_UNITS,
    BINARY_PREFIXES,
    DECIMAL_PREFIXES,
    Quantity,
    QuantityError,
    convert,
    format_number,
    format_quantity,
    parse_quantity,
    parse_unit,
)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("3.35 TB/s", 3.35e12, "B/s"),
        ("3.35TB/s", 3.35e12, "B/s"),
        ("1,555 GB/s", 1.555e12, "B/s"),
        ("989.4 TFLOPS", 989.4e12, "FLOP/s"),
        ("1978.9 TOP/s", 1978.9e12, "OP/s"),
        ("80 GiB", 80 * 2**30, "B"),
        ("80 GB", 80e9, "B"),
        ("400 Gbit/s", 50e9, "B/s"),
        ("90 min", 5400.0, "s"),
        ("4 µs", 4e-6, "s"),
        ("4us", 4e-6, "s"),
        ("5 kWh", 1.8e7, "J"),
        ("1/3", 1 / 3, ""),
        ("3.35e12", 3.35e12, ""),
        ("-2.5e-3 s", -2.5e-3, "s"),
        ("$2/h", 2.0, "USD/h"),
        (".5 B", 0.5, "B"),
        ("38 tokens/s", 38.0, "token/s"),
        ("7.2 Mparam", 7.2e6, "param"),
        ("50 %", 50.0, "%"),
    ],
)
def test_reads(text, value, unit):
    quantity = parse_quantity(text)
    assert (float(quantity), quantity.unit) == (value, unit)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("3 Gb/s", "Gbit/s"),
        ("3 Gbps", "Gbit/s"),
        ("3 GBps", "GB/s"),
        ("3 TFLOPs", "TFLOP/s"),
        ("3 KB", "kB"),
        ("3 gb", "GB"),
        ("3 furlong", "allowed are"),
        ("three GB", "not a number"),
        ("", "not a number"),
        ("1/0", "zero"),
        ("1 2 GB", "not"),
        ("12,34 GB", "not"),
        ("MFLOP", "not a number"),
    ],
)
def test_refuses_with_a_hint(text, hint):
    with pytest.raises(QuantityError, match=hint.replace("/", "/")):
        parse_quantity(text)


@pytest.mark.parametrize("wrong", [None, True, [], math.nan, math.inf])
def test_refuses_what_is_not_a_number(wrong):
    with pytest.raises(QuantityError, match="value"):
        parse_quantity(wrong)


def test_expect_checks_the_kind():
    assert parse_quantity(5, expect="GB/s").unit == "B/s"
    with pytest.raises(QuantityError, match="measures B; a value in s is wanted"):
        parse_quantity("5 GB", expect="s")


@given(st.decimals(min_value="0.001", max_value=999999, places=3, allow_nan=False))
def test_decimal_text_is_scaled_exactly(number: Decimal):
    # one rounding from the exact decimal, not two
    assert float(parse_quantity(f"{number} TB/s")) == float(Fraction(number) * 10**12)


@pytest.mark.parametrize("prefix", [*DECIMAL_PREFIXES, *BINARY_PREFIXES])
def test_prefixes(prefix):
    power = DECIMAL_PREFIXES.get(prefix)
    if power is not None and power < 0:
        assert parse_unit(prefix + "s").size == Fraction(1, 10**-power)
    else:
        size = 10**power if power is not None else 2 ** BINARY_PREFIXES[prefix]
        assert parse_unit(prefix + "B").size == size


@pytest.mark.parametrize("unit", BASE_UNITS)
def test_base_units_are_their_own_base(unit):
    assert parse_unit(unit).base == unit
    assert parse_unit(unit).size == 1


@given(
    st.floats(min_value=1e-9, max_value=1e21, allow_nan=False),
    st.sampled_from(["B", "B/s", "FLOP/s", "s", "W", "J", "FLOP/B"]),
)
def test_what_is_printed_reads_back(value, unit):
    printed = format_quantity(value, unit, digits=15)
    back = parse_quantity(printed, expect=unit)
    assert back.unit == unit
    assert math.isclose(back, value, rel_tol=1e-13)


@given(st.floats(min_value=1.0, max_value=9e20))
def test_chosen_prefix_leaves_one_to_three_digits(value):
    number = format_quantity(value, "B", digits=3).split()[0].replace(",", "")
    assert 1 <= float(number) <= 999 or value >= 9.995e20


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3.35e12, "B/s"), "3.35 TB/s"),
        ((3.35e12, "GB/s"), "3,350 GB/s"),
        ((2.039e12, "B/s", 4), "2.039 TB/s"),
        ((153.01618440412, "FLOP/B"), "153 FLOP/B"),
        ((85_899_345_920, "B"), "85.9 GB"),
        ((85_899_345_920, "GiB"), "80 GiB"),
        ((4.2e-6, "s"), "4.2 µs"),
        ((999_960, "B"), "1 MB"),
        ((0, "B"), "0 B"),
        ((0.2222222, "USD"), "0.222 USD"),
        ((43.4723, "%"), "43.5%"),
        ((-5e9, "B"), "-5 GB"),
        ((120_000, "W"), "120 kW"),
    ],
)
def test_prints(arguments, text):
    assert format_quantity(*arguments) == text


def test_gb_never_turns_into_gib():
    assert format_quantity(80e9, "B").endswith(" GB")
    assert format_quantity(80 * 2**30, "GB") == "85.9 GB"
    assert convert(80e9, "GiB") == pytest.approx(74.505806)


def test_decimals_and_prefix():
    assert format_quantity(3.35e12, "TB/s", decimals=3) == "3.350 TB/s"
    assert format_quantity(1500, "B", prefix="") == "1,500 B"
    assert format_number(-0.0001, decimals=2) == "0.00"


def test_integers_are_not_rounded_away():
    assert format_number(131_072) == "131,072"
    assert format_number(1_234_567) == "1,230,000"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: format_quantity(3.0), "unit"),
        (lambda: format_quantity(Quantity(1, "B"), "s"), "measures s"),
        (lambda: format_number(1.0, digits=0), "digits"),
        (lambda: format_number(1.0, decimals=-1), "decimals"),
        (lambda: convert(Quantity(1.0, "B"), "FLOP"), "measures FLOP"),
        (lambda: Quantity(1.0, "GB"), "not a base unit"),
        (lambda: parse_unit(3), "not a string"),
        (lambda: format_quantity(math.nan, "B", 3), "value: nan is not a number, so it has no B"),
        (lambda: format_quantity(Quantity(math.nan, "B")), "is not a number, so it has no B"),
        (lambda: format_quantity("x", "B", 3), "value: 'x' is not a number"),
        (lambda: format_quantity("3", "B", 3), "value: '3' is not a number"),
        (lambda: format_quantity(None, "B", 3), "value: None is not a number"),
        (lambda: format_quantity(True, "B", 3), "value: True is not a number"),
        (lambda: format_quantity([1.0, 2.0], "B"), r"value: \[1.0, 2.0\] is not one number"),
        (lambda: format_quantity(10**400, "B"), "larger than any number"),
        (lambda: format_quantity(1.0, "B", "x"), "digits: 'x'"),
        (lambda: format_number(None), "value: None is not a number"),
        (lambda: convert("5", "GB"), "value: '5' is not a number"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(QuantityError, match=message):
        call()


def test_a_quantity_that_is_no_number_still_prints():
    assert str(Quantity(math.nan, "B")) == "not a number"
    assert format_quantity(math.inf, "B") == "∞ B"


def test_quantity_computes_as_a_float_and_survives_copies():
    quantity = Quantity(3.35e12, "B/s")
    assert type(quantity * 2) is float
    assert f"{quantity:.2e}" == "3.35e+12"
    pickled = pickle.loads(pickle.dumps(quantity))
    for other in (copy.copy(quantity), copy.deepcopy(quantity), pickled):
        assert (other, other.unit) == (quantity, "B/s")


@pytest.mark.parametrize("text", ["e5", "1e400", "1e999999999 B", "1/1e999999"])
def test_numbers_that_no_double_holds_are_refused_at_once(text):
    with pytest.raises(QuantityError, match="value: "):
        parse_quantity(text)


def test_numbers_below_the_smallest_double_are_zero_as_in_a_browser():
    assert parse_quantity("1e-999999999 B") == 0
