"""Each operation serves numbers, arrays and expressions, and refuses the rest by name."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.formulas import ops

finite = st.floats(-1e100, 1e100)
positive = st.floats(1e-100, 1e100)

ONE_ARGUMENT = {
    "ceil": (math.ceil, np.ceil, finite),
    "floor": (math.floor, np.floor, finite),
    "absolute": (abs, np.abs, finite),
    "sqrt": (math.sqrt, np.sqrt, positive),
    "exp": (math.exp, np.exp, st.floats(-700, 700)),
    "log": (math.log, np.log, positive),
    "log2": (math.log2, np.log2, positive),
    "log10": (math.log10, np.log10, positive),
}


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_numbers_go_to_math_and_arrays_to_numpy(name):
    number, array, domain = ONE_ARGUMENT[name]
    operation = getattr(ops, name)

    @given(domain)
    def check(x):
        assert operation(x) == number(x)
        assert operation(np.float64(x)) == number(x)
        assert np.array_equal(operation(np.array([x, 1.0])), array(np.array([x, 1.0])))

    check()


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_fractions_are_rounded_exactly(numerator, denominator):
    x = Fraction(numerator, denominator)
    assert ops.floor(x) == numerator // denominator
    assert ops.ceil(x) == -(-numerator // denominator)
    assert ops.ceil(numerator) == ops.floor(numerator) == numerator


@given(st.lists(finite, min_size=2, max_size=5))
def test_minimum_and_maximum(xs):
    assert ops.minimum(*xs) == min(xs)
    assert ops.maximum(*xs) == max(xs)
    assert ops.minimum(np.array(xs), xs[0]).tolist() == [min(x, xs[0]) for x in xs]
    assert ops.maximum(*xs, np.array([xs[0]])).item() == max(xs)


def test_where_chooses_numbers_texts_and_elements():
    assert ops.where(1 < 2, "a", "b") == "a"
    assert ops.where(np.float64(3) < 2, 1, 2) == 2
    assert ops.where(np.array([True, False]), 1, np.array([5, 6])).tolist() == [1, 6]


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=9))
def test_argmax_is_the_first_of_the_best(xs):
    best = ops.argmax(xs, lambda x: -abs(x))
    assert best == xs[int(np.argmax([-abs(x) for x in xs]))]


def test_total_adds_numbers_and_arrays():
    assert ops.total([]) == 0
    assert ops.total(x / 2 for x in range(5)) == 5.0
    assert ops.total(np.ones((2, 3))) == 6.0
    assert ops.total([np.array([1, 2]), np.array([3, 4])]).tolist() == [4, 6]


class Recorder:
    """Stands for any value with an ``_op_``."""

    def _op_(self, name, arguments):
        return (name, arguments)


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_a_symbolic_argument_is_asked(name):
    x = Recorder()
    assert getattr(ops, name)(x) == (name, (x,))


def test_a_symbolic_argument_is_asked_wherever_it_stands():
    x = Recorder()
    assert ops.minimum(1, x, 2) == ("minimum", (1, x, 2))
    assert ops.where(True, 1, x) == ("where", (True, 1, x))
    assert ops.total([1, x]) == ("total", (1, x))
    name, (candidates, _) = ops.argmax([1, 2], lambda k: x)
    assert (name, candidates) == ("argmax", [1, 2])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ops.minimum(1), "minimum: values: got 1"),
        (lambda: ops.maximum("a", 1), "maximum: value 1: 'a' is a str"),
        (lambda: ops.minimum([1, 2], 3), r"minimum: value 1: \[1, 2\] is a list"),
        (lambda: ops.sqrt(-1), "sqrt: x: -1 is outside the domain; allowed is x >= 0"),
        (lambda: ops.log(0), "log: x: 0 is outside the domain; allowed is x > 0"),
        (lambda: ops.log2(np.array([1.0, -1.0])), "log2: x: .* is outside the domain"),
        (lambda: ops.log10(float("nan")), "log10: x: nan"),
        (lambda: ops.ceil(math.inf), "ceil: x: inf"),
        (lambda: ops.exp(1000), "exp: x: 1000 gives a result beyond"),
        (lambda: ops.floor(1j), r"floor: x: 1j is a complex"),
        (lambda: ops.exp(np.array(["a"])), "exp: x: an array of <U1 is not numeric"),
        (lambda: ops.where(1, 2, 3), "where: condition: 1 is not a comparison's result"),
        (lambda: ops.argmax([], abs), "argmax: candidates: is empty"),
        (lambda: ops.argmax([1], 2), "argmax: function: 2 is not callable"),
        (lambda: ops.total(3), "total: values: 3 is one value"),
        (lambda: ops.total([1, None]), r"total: values\[1\]: None"),
    ],
)
def test_errors_name_the_argument(call, words):
    with pytest.raises((TypeError, ValueError, OverflowError), match=words):
        call()
