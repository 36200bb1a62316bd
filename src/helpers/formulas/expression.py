"""Values that remember how they were made: the tree behind live figures and the formula sheet.

A formula is a plain Python function. Hand it *expressions* instead of numbers and it hands back a
tree: which operation, on which arguments, down to the variables. From the tree one renderer writes
JavaScript (:mod:`helpers.formulas.javascript`), another LaTeX (:mod:`helpers.formulas.latex`). A
variable may also carry Python's current number; then every expression above it carries its own,
and one call of a drawing function gives the first frame and the code that moves it.

Python offers no hook for some things that a formula could do with a value, ``if`` above all: the
choice would be made once, with the current number, and the tree would never know. Everything of
that sort raises, with a message that names the way out.

Examples
--------
>>> batch = variable("batch", 32)
>>> intensity = 2 * batch / 2
>>> intensity.value
32.0
>>> evaluate([intensity], {"batch": 64})
[64.0]
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from helpers.formulas import ops

#: JavaScript has one kind of number, a double: whole numbers are exact below this
EXACT_INTEGER_LIMIT = 2**53
#: JavaScript's toFixed writes digits below this and exponents from here on
FIXED_LIMIT = 1e21

NUMBER, CONDITION, TEXT = "number", "condition", "text"

#: what each operation does to plain values; also the list of operations a tree may hold
PYTHON: dict[str, Callable] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "negative": operator.neg,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "and": lambda left, right: left and right,
    "or": lambda left, right: left or right,
    "not": operator.not_,
    "join": lambda *parts: "".join(parts),
    "minimum": min,
    "maximum": max,
    "where": ops.where,
    "ceil": ops.ceil,
    "floor": ops.floor,
    "absolute": ops.absolute,
    "sqrt": ops.sqrt,
    "exp": ops.exp,
    "log": ops.log,
    "log2": ops.log2,
    "log10": ops.log10,
}
_COMPARISONS = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"}
_LOGIC = {"and", "or", "not"}

_FORMAT = re.compile(r"(?P<comma>,)?\.(?P<decimals>\d{1,2})(?P<type>[f%])")


class Expression:
    """One node of the tree: an operation and its arguments, or a leaf.

    Parameters
    ----------
    operation : str
        A name in :data:`PYTHON`, or ``constant``, ``variable``, ``bound``, ``format``, ``argmax``.
    arguments : tuple of Expression
        What the operation is applied to; empty for a leaf.
    kind : {"number", "condition", "text"}
        What sort of value this is; a condition is the result of a comparison.
    value : number, bool, str or None
        Python's current value, or None for a symbol without one.
    detail : hashable
        What else identifies the node: a constant's value, a variable's name, a number format.
    templates : Templates, optional
        Where f-strings of this drawing are kept; found in the arguments if not given.

    Notes
    -----
    Authors never call this: :func:`variable` makes the leaves and operators the rest.
    """

    __slots__ = ("arguments", "bound", "detail", "kind", "latex", "operation", "templates", "value")
    __hash__ = object.__hash__  # defining __eq__ would remove it

    def __init__(
        self,
        operation: str,
        arguments: tuple[Expression, ...] = (),
        *,
        kind: str = NUMBER,
        value: Any = None,
        detail: Any = None,
        templates: Templates | None = None,
    ) -> None:
        self.operation = operation
        self.arguments = arguments
        self.kind = kind
        self.value = _checked(value)
        self.detail = detail
        #: how the formula sheet writes a variable, if not by its name
        self.latex: str | None = None
        #: bound variables (of argmax, of a line's function) that occur free below this node
        self.bound: frozenset = frozenset().union(*(a.bound for a in arguments))
        self.templates = templates
        for argument in arguments:
            if self.templates is None:
                self.templates = argument.templates
            elif argument.templates not in (None, self.templates):
                raise ValueError(f"{self.operation}: the arguments belong to two drawings")

    # ---- what a formula may do ---------------------------------------------------------------

    def __add__(self, other: Any) -> Expression:
        return _add(self, other)

    def __radd__(self, other: Any) -> Expression:
        return _add(other, self)

    def __sub__(self, other: Any) -> Expression:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Expression:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return apply("divide", other, self)

    def __pow__(self, other: Any, modulus: Any = None) -> Expression:
        if modulus is not None:
            raise _misuse("pow() with a modulus", "no replacement")
        return apply("power", self, other)

    def __rpow__(self, other: Any) -> Expression:
        return apply("power", other, self)

    def __neg__(self) -> Expression:
        return apply("negative", self)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return apply("absolute", self)

    def __lt__(self, other: Any) -> Expression:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Expression:
        return apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Expression:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Expression:
        return apply("greater_equal", self, other)

    def __eq__(self, other: Any) -> Expression:  # type: ignore[override]
        return apply("equal", self, other)

    def __ne__(self, other: Any) -> Expression:  # type: ignore[override]
        return apply("not_equal", self, other)

    def __and__(self, other: Any) -> Expression:
        return apply("and", self, other)

    def __rand__(self, other: Any) -> Expression:
        return apply("and", other, self)

    def __or__(self, other: Any) -> Expression:
        return apply("or", self, other)

    def __ror__(self, other: Any) -> Expression:
        return apply("or", other, self)

    def __invert__(self) -> Expression:
        return apply("not", self)

    def _op_(self, name: str, arguments: tuple) -> Expression:
        """Serve a call of :mod:`helpers.formulas.ops` in which an expression takes part."""
        if name == "argmax":
            return _argmax(*arguments)
        if name == "total":
            result = arguments[0]
            for argument in arguments[1:]:
                result = result + argument
            return as_expression(result)
        templates = next((a.templates for a in arguments if isinstance(a, Expression)), None)
        return apply(name, *arguments, templates=templates)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Let ``numpy.float64(2) * x`` through and nothing else of numpy."""
        name = _UFUNCS.get(ufunc)
        plain = all(isinstance(x, Expression) or np.ndim(x) == 0 for x in inputs)
        if name is None or method != "__call__" or options or not plain:
            raise _misuse(f"numpy.{ufunc.__name__} or a numpy array", "the functions of ops")
        return apply(name, *inputs)

    # ---- text: f-strings leave a token ---------------------------------------------------------

    def __format__(self, spec: str) -> str:
        if self.kind == TEXT and spec == "":
            return self._template().token(self)
        if self.kind != NUMBER or not _FORMAT.fullmatch(spec):
            raise TypeError(
                f"format: {spec!r} on a {self.kind}: an expression's f-string takes .Nf, ,.Nf or "
                ".N% for numbers and nothing for text"
            )
        return self._template().token(formatted(self, spec))

    def __str__(self) -> str:
        return self.__format__("")

    def _template(self) -> Templates:
        if self.templates is None:
            raise TypeError("format: a symbol outside a drawing has no number to format")
        return self.templates

    def __repr__(self) -> str:
        inside = [repr(self.detail)] if self.detail is not None else []
        inside += [repr(argument) for argument in self.arguments]
        return f"{self.operation}({', '.join(inside)})"

    # ---- what would be silently wrong ----------------------------------------------------------

    def __bool__(self) -> bool:
        raise _misuse(
            "if, and, or, not, in, min, max, sorted, or a chained comparison",
            "where(condition, a, b), minimum, maximum, (a < b) & (b < c)",
        )

    def __float__(self) -> float:
        raise _misuse("float(), a math function or a %f format", "log2, sqrt ... from ops")

    def __int__(self) -> int:
        raise _misuse("int()", "floor or ceil")

    def __index__(self) -> int:
        raise _misuse("an index, range() or a whole-number format", "where, or a list of marks")

    def __complex__(self) -> complex:
        raise _misuse("complex()", "no replacement")

    def __round__(self, digits: Any = None) -> Any:
        raise _misuse("round()", "floor(x + 0.5), or a format such as .1f")

    def __trunc__(self) -> Any:
        raise _misuse("int() or math.trunc()", "floor")

    def __floor__(self) -> Any:
        raise _misuse("math.floor()", "floor from ops")

    def __ceil__(self) -> Any:
        raise _misuse("math.ceil()", "ceil from ops")

    def __floordiv__(self, other: Any) -> Any:
        raise _misuse("//", "floor(a / b)")

    __rfloordiv__ = __floordiv__

    def __mod__(self, other: Any) -> Any:
        raise _misuse("%", "a - b * floor(a / b)")

    def __divmod__(self, other: Any) -> Any:
        raise _misuse("divmod()", "floor(a / b)")

    __rdivmod__ = __divmod__

    def __rmod__(self, other: Any) -> Any:
        raise _misuse("%, or a %-format", "a - b * floor(a / b), or an f-string")

    def __iter__(self) -> Any:
        raise _misuse("a loop", "a loop over plain numbers")

    def __len__(self) -> int:
        raise _misuse("len()", "a plain number")

    def __contains__(self, item: Any) -> bool:
        raise _misuse("in", "comparisons joined by |")


class Templates:
    """The f-strings of one drawing.

    An expression in an f-string leaves a short token; this table knows which expression stands
    behind it, so that the finished text can be taken apart again.

    Examples
    --------
    >>> templates = Templates()
    >>> batch = variable("batch", 32, templates=templates)
    >>> label = templates.resolve(f"{batch:.1f} sequences")
    >>> label.value
    '32.0 sequences'
    """

    _MARK = re.compile("\x02(\\d+)n(\\d+)\x03")

    def __init__(self) -> None:
        self._expressions: list[Expression] = []

    def token(self, expression: Expression) -> str:
        """Return the stand-in for a text expression inside an f-string."""
        self._expressions.append(expression)
        return f"\x02{id(self)}n{len(self._expressions) - 1}\x03"

    def resolve(self, text: str) -> str | Expression:
        """Return the text with its tokens as one expression; plain text comes back as it is."""
        pieces = self._MARK.split(text)
        if len(pieces) == 1:
            return text
        parts = []
        # split() gives text, table, number, text, table, number, ..., text
        for i in range(0, len(pieces), 3):
            if pieces[i]:
                parts.append(constant(pieces[i]))
            if i + 1 < len(pieces):
                if int(pieces[i + 1]) != id(self):
                    raise ValueError(f"text: {text!r} was made in another drawing")
                parts.append(self._expressions[int(pieces[i + 2])])
        return apply("join", *parts) if len(parts) > 1 else parts[0]


def plain(value: Any) -> Any:
    """Return Python's current value of an expression, or the value itself.

    Examples
    --------
    >>> plain(variable("batch", 32) + 1), plain(7)
    (33, 7)
    """
    return value.value if isinstance(value, Expression) else value


def variable(
    name: str,
    value: Any = None,
    *,
    latex: str | None = None,
    templates: Templates | None = None,
) -> Expression:
    """Make a leaf that stands for something that changes.

    Parameters
    ----------
    name : str
        An identifier, or several joined by dots (``chip.peak``).
    value : number, bool or str, optional
        The current value; without it the variable is a symbol.
    latex : str, optional
        How the formula sheet writes it; the name if not given.
    templates : Templates, optional
        The drawing it belongs to, where f-strings are used.

    Raises
    ------
    ValueError
        If the name is not made of identifiers or the value is not finite.

    Examples
    --------
    >>> variable("chip.peak", 989e12).value
    989000000000000.0
    """
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"name: {name!r} is not an identifier or several joined by dots")
    value = _unboxed(value)
    kind = _kind_of(value) if value is not None else NUMBER
    node = Expression("variable", kind=kind, value=value, detail=name, templates=templates)
    node.latex = latex
    return node


def bound_variable(value: Any = None) -> Expression:
    """Make the variable of a function inside a tree, such as the x of a line's ``y = f(x)``."""
    node = Expression("bound", value=_unboxed(value), detail=object())
    node.bound = frozenset([node.detail])
    return node


def constant(value: Any) -> Expression:
    """Make a leaf from a number, a truth value or a text that does not change."""
    if value is None:
        raise TypeError("value: None is not a number, truth value or text")
    value = _unboxed(value)
    # 1, 1.0 and True are equal in Python; the type keeps them apart
    return Expression(
        "constant", kind=_kind_of(value), value=value, detail=(type(value).__name__, value)
    )


def as_expression(value: Any, templates: Templates | None = None) -> Expression:
    """Return an expression unchanged and anything else as a constant.

    Raises
    ------
    TypeError
        If the value is neither an expression nor a number, truth value or text.
    """
    if isinstance(value, Expression):
        return value
    if isinstance(value, str) and templates is not None:
        value = templates.resolve(value)
        return value if isinstance(value, Expression) else constant(value)
    return constant(value)


def apply(operation: str, *arguments: Any, templates: Templates | None = None) -> Expression:
    """Make the node that applies an operation to arguments.

    Parameters
    ----------
    operation : str
        A name in :data:`PYTHON`.
    *arguments : Expression, number, bool or str
        What it is applied to.

    Raises
    ------
    TypeError
        If an argument is of a kind that the operation does not take.
    ValueError, OverflowError, ZeroDivisionError
        If the arguments carry numbers and the result is not a finite number.

    Examples
    --------
    >>> apply("minimum", variable("x", 3), 2).value
    2
    """
    if operation not in PYTHON:
        raise ValueError(f"operation: {operation!r} is unknown; allowed are {', '.join(PYTHON)}")
    for argument in arguments:
        if templates is None and isinstance(argument, Expression):
            templates = argument.templates
    nodes = tuple(as_expression(argument, templates) for argument in arguments)
    kind = _result_kind(operation, nodes)
    value = None
    if all(node.value is not None for node in nodes):
        value = PYTHON[operation](*(node.value for node in nodes))
    return Expression(operation, nodes, kind=kind, value=value)


def formatted(number: Expression, spec: str) -> Expression:
    """Make the text that ``format(number, spec)`` gives.

    Raises
    ------
    ValueError
        If the number is so large that JavaScript would write an exponent.
    """
    parts = _FORMAT.fullmatch(spec)
    if parts is None or int(parts["decimals"]) > 20:
        raise ValueError(f"spec: {spec!r} is not one of .Nf, ,.Nf, .N%, ,.N% with N up to 20")
    if number.value is not None and abs(number.value) >= FIXED_LIMIT / 100:
        raise ValueError(f"number: {number.value} is too large to write in digits; scale it")
    text = None if number.value is None else format(number.value, spec)
    detail = (bool(parts["comma"]), int(parts["decimals"]), parts["type"] == "%")
    return Expression("format", (number,), kind=TEXT, value=text, detail=detail)


def evaluate(roots: Sequence[Any], variables: Mapping[str, Any]) -> list[Any]:
    """Compute expressions for given values of their variables, in plain Python.

    Parameters
    ----------
    roots : sequence of Expression or plain values
        What to compute; shared parts are computed once.
    variables : mapping of str to number or str
        A value for each variable's name.

    Returns
    -------
    list
        One value per root.

    Raises
    ------
    KeyError
        If a variable is missing.

    Examples
    --------
    >>> x = variable("x")
    >>> evaluate([x * x, ops.maximum(x, 10)], {"x": 3})
    [9, 10]
    """
    evaluation = Evaluation(variables)
    return [evaluation.value(root) for root in roots]


class Evaluation:
    """Computes expressions for one set of values and remembers every part that it has computed.

    Parameters
    ----------
    variables : mapping of str to number or str
        A value for each variable's name.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables
        self._bound: dict[object, Any] = {}
        self._known: dict[int, Any] = {}

    def value(self, root: Any) -> Any:
        """Return an expression's value; anything else comes back as it is."""
        return self._compute(root) if isinstance(root, Expression) else root

    def values_over(self, body: Expression, bound: Expression, candidates: Sequence) -> list[Any]:
        """Return a function body's value at each candidate for its bound variable."""
        found = []
        for candidate in candidates:
            self._bound[bound.detail] = candidate
            found.append(self._compute(body))
        return found

    def _compute(self, node: Expression) -> Any:
        known = self._known.get(id(node))
        if known is not None:
            return known
        operation = node.operation
        if operation == "constant":
            result = node.value
        elif operation == "variable":
            result = self.variables[node.detail]
        elif operation == "bound":
            result = self._bound[node.detail]
        elif operation == "argmax":
            candidates, bound = node.detail
            heights = self.values_over(node.arguments[0], bound, candidates)
            result = candidates[max(range(len(candidates)), key=heights.__getitem__)]
        elif operation == "format":
            result = format(self._compute(node.arguments[0]), format_spec(node))
        else:
            result = PYTHON[operation](*[self._compute(part) for part in node.arguments])
        if not node.bound:  # below a bound variable the value changes from candidate to candidate
            self._known[id(node)] = result
        return result


def format_spec(node: Expression) -> str:
    """Return the f-string format of a ``format`` node."""
    comma, decimals, percent = node.detail
    return f"{',' if comma else ''}.{decimals}{'%' if percent else 'f'}"


def _argmax(candidates: Sequence, function: Callable) -> Expression:
    """Build the tree of ``ops.argmax``: the function's tree over a bound variable."""
    candidates = tuple(_unboxed(candidate) for candidate in candidates)
    heights = [plain(function(candidate)) for candidate in candidates]
    x = bound_variable(candidates[0] if heights[0] is not None else None)
    body = as_expression(function(x))
    value = None
    if all(height is not None for height in heights):
        value = candidates[max(range(len(candidates)), key=heights.__getitem__)]
    node = Expression("argmax", (body,), value=value, detail=(candidates, x))
    node.bound = body.bound - {x.detail}
    return node


def _add(left: Any, right: Any) -> Expression:
    """Add numbers, or join texts: Python writes both with a plus."""
    texts = [x for x in (left, right) if isinstance(x, str) or getattr(x, "kind", "") == TEXT]
    return apply("join" if len(texts) == 2 else "add", left, right)


def _checked(value: Any) -> Any:
    """Refuse a value that JavaScript cannot hold."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, complex):
        raise ValueError(f"an expression became the complex number {value}")
    if not math.isfinite(value):
        raise ValueError(f"an expression became {value}; allowed are finite numbers")
    if isinstance(value, int) and abs(value) >= EXACT_INTEGER_LIMIT:
        raise OverflowError(
            f"an expression became the int {value}: JavaScript's numbers are exact below 2**53 "
            "only; start from a float (2.0 instead of 2)"
        )
    return value


def _unboxed(value: Any) -> Any:
    """Turn numpy scalars, and subclasses of float that carry a unit, into Python's own numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, str)) or value is None:
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(
        f"{value!r} is a {type(value).__name__}; an expression takes numbers, truth values and text"
    )


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return CONDITION
    return TEXT if isinstance(value, str) else NUMBER


def _result_kind(operation: str, nodes: Iterable[Expression]) -> str:
    """Check the arguments' kinds and return the result's."""
    kinds = [node.kind for node in nodes]
    if operation == "where":
        if kinds[0] != CONDITION:
            raise TypeError(f"where: condition: is a {kinds[0]}; allowed is a comparison's result")
        if kinds[1] != kinds[2]:
            raise TypeError(f"where: one branch is a {kinds[1]}, the other a {kinds[2]}")
        return kinds[1]
    if operation in ("equal", "not_equal"):
        allowed, result = ({NUMBER} if NUMBER in kinds else {TEXT}), CONDITION
    elif operation in _COMPARISONS:
        allowed, result = {NUMBER}, CONDITION
    elif operation in _LOGIC:
        allowed, result = {CONDITION}, CONDITION
    elif operation == "join":
        allowed, result = {TEXT}, TEXT
    else:
        allowed, result = {NUMBER}, NUMBER
    if not set(kinds) <= allowed:
        raise TypeError(
            f"{operation}: the arguments are {' and '.join(kinds)}; allowed is {allowed.pop()} only"
        )
    return result


def _misuse(what: str, instead: str) -> TypeError:
    return TypeError(f"an expression does not work with {what}; use {instead} (helpers.formulas)")


_UFUNCS = {
    np.add: "add",
    np.subtract: "subtract",
    np.multiply: "multiply",
    np.true_divide: "divide",
    np.power: "power",
    np.less: "less",
    np.less_equal: "less_equal",
    np.greater: "greater",
    np.greater_equal: "greater_equal",
    np.equal: "equal",
    np.not_equal: "not_equal",
}
