"""The functions a formula may use besides ``+ - * / **``, so that one formula has many faces.

A formula of this book is a plain Python function. Called with numbers it must give a number, with
numpy arrays an array for a plot, and with *expressions* (:mod:`helpers.formulas.expression`) the
tree from which the page's JavaScript and the formula sheet's LaTeX are made. Python's own ``min``
or ``math.log2`` serve the first only; each function here looks at its arguments and serves all
three:

===================  ==========================================
argument             what does the work
===================  ==========================================
int, float, numpy    ``math`` and the builtins
scalar, Quantity
numpy array          numpy, element by element
anything with        that method, called with the function's
``_op_``             name and the tuple of arguments
===================  ==========================================

Examples
--------
>>> minimum(989e12, 32 * 3.35e12)
107200000000000.0
>>> import numpy as np
>>> minimum(4.0, np.array([1.0, 8.0]))
array([1., 4.])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

__all__ = [
    "absolute",
    "argmax",
    "ceil",
    "exp",
    "floor",
    "log",
    "log2",
    "log10",
    "maximum",
    "minimum",
    "sqrt",
    "total",
    "where",
]


def is_symbolic(value: Any) -> bool:
    """Tell whether a value takes part in an expression tree, by having an ``_op_`` method."""
    return hasattr(type(value), "_op_")


def _symbolic(values: Iterable[Any]) -> Any:
    """Return the first value that has an ``_op_``, or None."""
    return next((value for value in values if is_symbolic(value)), None)


def _check_number(function: str, argument: str, value: Any) -> None:
    """Raise unless ``value`` is a real number or a numpy array of them."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iufb":
            raise TypeError(f"{function}: {argument}: an array of {value.dtype} is not numeric")
    elif not isinstance(value, Real):
        raise TypeError(
            f"{function}: {argument}: {value!r} is a {type(value).__name__}; allowed are numbers, "
            "numpy arrays and expressions"
        )


def _one_argument(
    name: str, x: Any, number: Callable, array: Callable, allowed: str, valid: Callable
) -> Any:
    """Dispatch a function of one argument; ``valid`` tells where it is defined."""
    if is_symbolic(x):
        return x._op_(name, (x,))
    _check_number(name, "x", x)
    if not np.all(valid(x)):
        raise ValueError(f"{name}: x: {x!r} is outside the domain; allowed is {allowed}")
    try:
        return array(x) if isinstance(x, np.ndarray) else number(x)
    except OverflowError as error:
        raise OverflowError(f"{name}: x: {x!r} gives a result beyond the largest float") from error


def _extreme(name: str, values: tuple, number: Callable, array: Callable) -> Any:
    """Dispatch ``minimum`` and ``maximum``."""
    if len(values) < 2:
        raise TypeError(f"{name}: values: got {len(values)}; allowed are two or more")
    symbolic = _symbolic(values)
    if symbolic is not None:
        return symbolic._op_(name, values)
    for position, value in enumerate(values, start=1):
        _check_number(name, f"value {position}", value)
    if not any(isinstance(value, np.ndarray) for value in values):
        return number(values)
    result = values[0]
    for value in values[1:]:
        result = array(result, value)
    return result


def minimum(*values: Any) -> Any:
    """Return the smallest of two or more values; arrays element by element.

    Examples
    --------
    >>> minimum(3, 2.0, 5)
    2.0
    """
    return _extreme("minimum", values, min, np.minimum)


def maximum(*values: Any) -> Any:
    """Return the largest of two or more values; arrays element by element.

    Examples
    --------
    >>> maximum(3, 2.0, 5)
    5
    """
    return _extreme("maximum", values, max, np.maximum)


def where(condition: Any, if_true: Any, if_false: Any) -> Any:
    """Choose between two values; both are computed, whatever the condition says.

    Parameters
    ----------
    condition : bool, array of bool, or expression
        A comparison such as ``intensity < ridge``.
    if_true, if_false : number, str, array, or expression
        The values to choose from. Text serves the labels of a figure.

    Raises
    ------
    TypeError
        If the condition is not the result of a comparison.

    Examples
    --------
    >>> where(32 < 295, "memory-bound", "compute-bound")
    'memory-bound'
    """
    symbolic = _symbolic((condition, if_true, if_false))
    if symbolic is not None:
        return symbolic._op_("where", (condition, if_true, if_false))
    if isinstance(condition, (bool, np.bool_)):
        return if_true if condition else if_false
    if isinstance(condition, np.ndarray) and condition.dtype == bool:
        return np.where(condition, if_true, if_false)
    raise TypeError(f"where: condition: {condition!r} is not a comparison's result (a bool)")


def ceil(x: Any) -> Any:
    """Round up to a whole number: an int from a number, an array of floats from an array.

    Examples
    --------
    >>> ceil(7 / 2)
    4
    """
    return _one_argument("ceil", x, math.ceil, np.ceil, "any finite number", _finite)


def floor(x: Any) -> Any:
    """Round down to a whole number: an int from a number, an array of floats from an array.

    Examples
    --------
    >>> floor(7 / 2)
    3
    """
    return _one_argument("floor", x, math.floor, np.floor, "any finite number", _finite)


def absolute(x: Any) -> Any:
    """Return the size of a number without its sign.

    Examples
    --------
    >>> absolute(-2.5)
    2.5
    """
    return _one_argument("absolute", x, abs, np.abs, "any number", _anything)


def sqrt(x: Any) -> Any:
    """Return the square root of a number that is not negative.

    Examples
    --------
    >>> sqrt(16)
    4.0
    """
    return _one_argument("sqrt", x, math.sqrt, np.sqrt, "x >= 0", _not_negative)


def exp(x: Any) -> Any:
    """Return e to the power of x.

    Examples
    --------
    >>> exp(0)
    1.0
    """
    return _one_argument("exp", x, math.exp, np.exp, "any number", _anything)


def log(x: Any) -> Any:
    """Return the natural logarithm of a positive number.

    Examples
    --------
    >>> log(1)
    0.0
    """
    return _one_argument("log", x, math.log, np.log, "x > 0", _positive)


def log2(x: Any) -> Any:
    """Return the base-2 logarithm of a positive number.

    Examples
    --------
    >>> log2(1024)
    10.0
    """
    return _one_argument("log2", x, math.log2, np.log2, "x > 0", _positive)


def log10(x: Any) -> Any:
    """Return the base-10 logarithm of a positive number.

    Examples
    --------
    >>> log10(1000)
    3.0
    """
    return _one_argument("log10", x, math.log10, np.log10, "x > 0", _positive)


def argmax(candidates: Sequence[float], function: Callable[[Any], Any]) -> Any:
    """Return the candidate at which a function is largest; the first one on a tie.

    Parameters
    ----------
    candidates : sequence of numbers
        The values to try.
    function : callable
        Takes one candidate; may use expressions besides it.

    Raises
    ------
    ValueError
        If there is no candidate.

    Examples
    --------
    >>> argmax(range(10), lambda k: k * (7 - k))
    3
    """
    if not callable(function):
        raise TypeError(f"argmax: function: {function!r} is not callable")
    candidates = list(candidates)
    if not candidates:
        raise ValueError("argmax: candidates: is empty; allowed is at least one number")
    for candidate in candidates:
        _check_number("argmax", "candidates", candidate)
    heights = [function(candidate) for candidate in candidates]
    symbolic = _symbolic(heights)
    if symbolic is not None:
        return symbolic._op_("argmax", (candidates, function))
    return candidates[max(range(len(candidates)), key=heights.__getitem__)]


def total(values: Any) -> Any:
    """Add up the values of a sequence, from the first to the last.

    Parameters
    ----------
    values : sequence of numbers, arrays or expressions, or one array
        An array is added up over all its axes.

    Examples
    --------
    >>> total([1, 2, 3.5])
    6.5
    """
    if isinstance(values, np.ndarray):
        _check_number("total", "values", values)
        return values.sum().item()
    if is_symbolic(values) or isinstance(values, (str, Real)):
        raise TypeError(f"total: values: {values!r} is one value; allowed is a sequence of them")
    values = list(values)
    if not values:
        return 0
    symbolic = _symbolic(values)
    if symbolic is not None:
        return symbolic._op_("total", tuple(values))
    result = values[0]
    for position, value in enumerate(values):
        _check_number("total", f"values[{position}]", value)
        if position:
            result = result + value
    return result


def _anything(x: Any) -> bool:
    return True


def _finite(x: Any) -> Any:
    # numpy knows neither fractions nor whole numbers beyond 64 bits; math rounds both exactly
    return np.isfinite(x) if isinstance(x, np.ndarray) else math.isfinite(x)


def _not_negative(x: Any) -> Any:
    return x >= 0


def _positive(x: Any) -> Any:
    return x > 0
