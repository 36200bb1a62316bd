"""Guesses: numbers and texts with units come back in the unit asked for, all else is named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helpers.book.guess import guess
from helpers.catalog import Quantity


@pytest.mark.parametrize(
    "value",
    [
        *(20, 20.0, np.int64(20), np.float32(20), Quantity(20e9, "B/s")),
        *("20", "20 GB/s", "0.02 TB/s", "1/0.05"),
    ],
)
def test_the_same_guess_in_many_forms(value):
    assert guess("memory", value, "GB/s") == pytest.approx(20)
    assert type(guess("memory", value, "GB/s")) is float


def test_microseconds_and_counts():
    assert guess("call", "0.002 ms", "us") == pytest.approx(2)
    assert guess("operations", "5") == guess("operations", 5) == 5


@pytest.mark.parametrize(
    "value",
    [0, -3, "-3", "0", math.nan, math.inf, True, None, ..., [1], 1j, "", "many", "5 s", "5 GB"],
)
def test_what_is_no_guess_is_named(value):
    with pytest.raises(ValueError) as caught:
        guess("memory", value, "GB/s")
    message = str(caught.value)
    assert message.startswith(f"memory: {value!r} is not a guess; allowed is a finite number")
    assert "above 0, in GB/s" in message


def test_a_count_takes_no_unit():
    with pytest.raises(ValueError, match=r"operations: '5 GB' is not a guess.*measures B"):
        guess("operations", "5 GB")


def test_none_at_all_where_that_can_be():
    assert guess("operations", 0, zero=True) == 0
    with pytest.raises(ValueError, match="of at least 0"):
        guess("operations", -1, zero=True)
