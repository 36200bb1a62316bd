r"""Write expression trees as LaTeX, the way a person would set the formula.

Products are set without a sign where that reads well, a quotient is one fraction however many
divisions made it, and parentheses stand only where the tree needs them.

Examples
--------
>>> from helpers.formulas.expression import variable
>>> peak, bandwidth = variable("peak", latex=r"P"), variable("bandwidth", latex=r"\beta")
>>> to_latex(peak / bandwidth)
'\\frac{P}{\\beta}'
"""

from __future__ import annotations

import re
from typing import Any

from helpers.formulas.expression import Expression, as_expression

#: how tightly each form binds
_CASES, _OR, _AND, _RELATION, _SUM, _PRODUCT, _POWER, _ATOM = range(8)

_RELATIONS = {
    "less": "<",
    "less_equal": r"\le",
    "greater": ">",
    "greater_equal": r"\ge",
    "equal": "=",
    "not_equal": r"\ne",
}
_FENCES = {
    "ceil": (r"\lceil", r"\rceil"),
    "floor": (r"\lfloor", r"\rfloor"),
    "absolute": (r"\lvert", r"\rvert"),
}
_FUNCTIONS = {
    "minimum": r"\min",
    "maximum": r"\max",
    "log": r"\ln",
    "log2": r"\log_2",
    "log10": r"\log_{10}",
}


def to_latex(expression: Any) -> str:
    r"""Write an expression as LaTeX.

    Parameters
    ----------
    expression : Expression or number
        What a formula gave when it was called with symbols.

    Returns
    -------
    str
        LaTeX for math mode, without dollar signs.

    Raises
    ------
    TypeError
        If the expression holds text made by an f-string.

    Examples
    --------
    >>> from helpers.formulas import ops
    >>> from helpers.formulas.expression import variable
    >>> x, y = variable("x"), variable("y")
    >>> print(to_latex(2 * (x + 1) / y))
    \frac{2 \left(x + 1\right)}{y}
    >>> print(to_latex(ops.minimum(x, y * 3)))
    \min\left(x, 3 y\right)
    """
    return _write(as_expression(expression), _CASES)


def _write(node: Expression, outside: int) -> str:
    """Write a node, in parentheses where the form outside binds more tightly."""
    code, binding = _code(node)
    return _parenthesised(code) if binding < outside else code


def _parenthesised(code: str) -> str:
    return rf"\left({code}\right)"


def _code(node: Expression) -> tuple[str, int]:
    """Write a node without parentheses; return also how tightly it binds."""
    operation, arguments = node.operation, node.arguments
    if operation == "constant":
        return _constant(node.value)
    if operation == "variable":
        return _variable(node), _ATOM
    if operation == "bound":
        return "k", _ATOM
    if operation in ("add", "subtract", "negative"):
        return _sum(node), _SUM
    if operation in ("multiply", "divide"):
        return _quotient(node)
    if operation == "power":
        return _power(*arguments)
    if operation in _RELATIONS:
        left, right = (_write(argument, _SUM) for argument in arguments)
        return f"{left} {_RELATIONS[operation]} {right}", _RELATION
    if operation == "and":
        return r" \text{ and } ".join(_write(a, _AND) for a in arguments), _AND
    if operation == "or":
        return r" \text{ or } ".join(_write(a, _OR) for a in arguments), _OR
    if operation == "not":
        return rf"\text{{not }} {_write(arguments[0], _ATOM)}", _RELATION
    if operation == "sqrt":
        return rf"\sqrt{{{_write(arguments[0], _CASES)}}}", _ATOM
    if operation == "exp":
        return rf"e^{{{_write(arguments[0], _CASES)}}}", _POWER
    if operation in _FENCES:
        left, right = _FENCES[operation]
        return rf"\left{left} {_write(arguments[0], _CASES)} \right{right}", _ATOM
    if operation in _FUNCTIONS:
        inside = ", ".join(_write(argument, _CASES) for argument in arguments)
        return _FUNCTIONS[operation] + _parenthesised(inside), _ATOM
    if operation == "where":
        return _cases(node), _CASES
    if operation == "argmax":
        candidates, _ = node.detail
        body = _write(arguments[0], _PRODUCT)
        return rf"\arg\max_{{k \in {_set(candidates)}}} {body}", _SUM
    raise TypeError(f"to_latex: {operation} makes text; allowed are numbers and conditions")


def _constant(value: Any) -> tuple[str, int]:
    """Write a constant; powers of ten as such, so that 1e12 does not become thirteen digits."""
    if isinstance(value, bool):
        return (r"\text{true}" if value else r"\text{false}"), _ATOM
    if isinstance(value, str):
        return rf"\text{{{_escaped(value)}}}", _ATOM
    if value < 0:
        return "-" + _constant(-value)[0], _SUM
    digits = f"{value:.12g}" if isinstance(value, float) else str(value)
    scientific = re.fullmatch(r"([\d.]+)e([+-]\d+)", f"{value:.12e}") if value else None
    if scientific and (abs(int(scientific[2])) >= 5) and (isinstance(value, float) or value >= 1e9):
        mantissa = scientific[1].rstrip("0").rstrip(".")
        power = f"10^{{{int(scientific[2])}}}"
        if mantissa == "1":
            return power, _POWER
        if len(mantissa) <= 5:
            return rf"{mantissa} \times {power}", _PRODUCT
    whole, dot, fraction = digits.partition(".")
    if len(whole) > 4:
        whole = re.sub(r"\B(?=(\d{3})+$)", r"\\,", whole)
    return whole + dot + fraction, _ATOM


def _variable(node: Expression) -> str:
    """Write a variable by the LaTeX it was given, or by its name."""
    if node.latex is not None:
        return node.latex
    name = node.detail
    if len(name) == 1:
        return name
    return rf"\mathit{{{_escaped(name)}}}"


def _escaped(text: str) -> str:
    return re.sub(r"([_%&#${}])", r"\\\1", text)


def _sum(node: Expression) -> str:
    """Write a sum from the left; what is subtracted or negative gets a minus sign, not ``+ -``."""
    if node.operation == "negative":
        return "-" + _write(node.arguments[0], _PRODUCT)
    left, right = node.arguments
    sign = "+" if node.operation == "add" else "-"
    code = _write(right, _SUM if sign == "+" else _PRODUCT)
    if sign == "+" and code.startswith("-"):
        sign, code = "-", code[1:]
    return f"{_write(left, _SUM)} {sign} {code}"


def _quotient(node: Expression) -> tuple[str, int]:
    """Write a chain of products and divisions as one product or one fraction."""
    above, below = _factors(node)
    above = [factor for factor in above if not _is_one(factor)] or above[:1]
    if not below:
        return _product(above), (_PRODUCT if len(above) > 1 else _code(above[0])[1])
    # inside a fraction's bar a single factor needs no parentheses
    numerator = _product(above) if len(above) > 1 else _write(above[0], _CASES)
    denominator = _product(below) if len(below) > 1 else _write(below[0], _CASES)
    return rf"\frac{{{numerator}}}{{{denominator}}}", _PRODUCT


def _is_one(node: Expression) -> bool:
    return node.operation == "constant" and node.value == 1


def _factors(node: Expression) -> tuple[list[Expression], list[Expression]]:
    """Split a node into the factors above and below the fraction bar."""
    if node.operation == "multiply":
        (above, below), (more_above, more_below) = map(_factors, node.arguments)
        return above + more_above, below + more_below
    if node.operation == "divide":
        (above, below), (more_below, more_above) = map(_factors, node.arguments)
        more_above = [factor for factor in more_above if not _is_one(factor)]
        return above + more_above, below + [f for f in more_below if not _is_one(f)]
    return [node], []


def _product(factors: list[Expression]) -> str:
    """Write factors side by side, numbers first, with a sign only where two would run together."""
    code = ""
    # sorted() keeps the order of those that are alike
    for position, factor in enumerate(sorted(factors, key=lambda f: f.operation != "constant")):
        piece = _write(factor, _SUM if position == 0 else _PRODUCT)
        if position == 0 and factor.operation != "constant":
            piece = _write(factor, _PRODUCT)
        if position == 0:
            code = piece
        elif re.match(r"[\d-]|\\frac", piece) or (
            _ends_in_digit(code) and _starts_scientific(piece)
        ):
            code += rf" \cdot {piece}"
        elif r"\mathit{" in code + piece or r"\text{" in piece or r"_\text" in code:
            code += rf" \, {piece}"
        else:
            code += f" {piece}"
    return code


def _ends_in_digit(code: str) -> bool:
    return code[-1:].isdigit()


def _starts_scientific(piece: str) -> bool:
    return piece.startswith("10^")


def _power(base: Expression, exponent: Expression) -> tuple[str, int]:
    """Write a power; a half is a root and a negative base or one that has an exponent is fenced."""
    if exponent.operation == "constant" and exponent.value == 0.5:
        return rf"\sqrt{{{_write(base, _CASES)}}}", _ATOM
    code = _write(base, _ATOM)
    if base.operation == "variable" and "^" in code:
        code = _parenthesised(code)
    return f"{code}^{{{_write(exponent, _CASES)}}}", _POWER


def _cases(node: Expression) -> str:
    """Write a choice as cases; a choice in the otherwise branch adds a row."""
    rows = []
    while node.operation == "where":
        condition, if_true, node = node.arguments
        rows.append(rf"{_write(if_true, _CASES)} & \text{{if }} {_write(condition, _CASES)}")
    rows.append(rf"{_write(node, _CASES)} & \text{{otherwise}}")
    return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"


def _set(candidates: tuple) -> str:
    """Write the candidates of an argmax; a long run of whole numbers by its ends."""
    first, last = candidates[0], candidates[-1]
    if len(candidates) > 4 and list(candidates) == list(range(int(first), int(last) + 1)):
        return rf"\{{{first}, \dots, {last}\}}"
    return r"\{" + ", ".join(_constant(candidate)[0] for candidate in candidates) + r"\}"
