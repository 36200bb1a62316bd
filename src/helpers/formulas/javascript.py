"""Write expression trees as JavaScript.

The code computes in the same order as Python did, with the same doubles, so that a page's read-out
and the book's tables agree to the last bit. Nothing is evaluated from text on the page: what comes
out of here is put into the page's own script.

Python and JavaScript agree by construction except in two places, both bounded by the tests:
``exp``, the logarithms and powers may differ in the last bit, because each language brings its own
mathematical library; and zero has a sign in JavaScript where Python's int has none, which no format
shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from helpers.formulas.expression import EXACT_INTEGER_LIMIT, Expression, as_expression

#: how tightly each form binds, as in JavaScript's own grammar
_CHOICE, _OR, _AND, _EQUALITY, _RELATION, _SUM, _PRODUCT, _UNARY, _ATOM = range(9)

#: infix operators: JavaScript's spelling, its binding
_INFIX = {
    "add": ("+", _SUM),
    "subtract": ("-", _SUM),
    "multiply": ("*", _PRODUCT),
    "divide": ("/", _PRODUCT),
    "less": ("<", _RELATION),
    "less_equal": ("<=", _RELATION),
    "greater": (">", _RELATION),
    "greater_equal": (">=", _RELATION),
    "equal": ("===", _EQUALITY),
    "not_equal": ("!==", _EQUALITY),
    "and": ("&&", _AND),
    "or": ("||", _OR),
    "join": ("+", _SUM),
}

#: operations that are calls
_CALLS = {
    "power": "Math.pow",
    "minimum": "Math.min",
    "maximum": "Math.max",
    "floor": "Math.floor",
    "absolute": "Math.abs",
    "sqrt": "Math.sqrt",
    "exp": "Math.exp",
    "log": "Math.log",
    "log2": "Math.log2",
    "log10": "Math.log10",
}

#: definitions of the two helpers the code may call, for tests and other engines
HELPERS = """\
// Python's format(x, ".Nf"): toFixed, except that an exact tie goes to the even digit
const format = (x, decimals, comma, percent) => {
  if (percent) x *= 100;
  let text = x.toFixed(decimals), long = x.toFixed(decimals + 24);
  if (/50{23}$/.test(long)) {
    long = long.slice(0, -24).replace(/\\.$/, "");
    if (/[02468]$/.test(long)) text = long;
  }
  if (comma) text = text.replace(/^-?\\d+/, whole => whole.replace(/\\B(?=(\\d{3})+$)/g, ","));
  return percent ? text + "%" : text;
};
// the first x with the largest f(x)
const argmax = (xs, f) => xs.reduce((best, x) => f(x) > f(best) ? x : best);
"""


class Code(NamedTuple):
    """JavaScript for several expressions: definitions they share, and one expression each."""

    constants: list[str]
    expressions: list[str]
    bound_names: dict[object, str]

    def function_body(self, result: str) -> str:
        """Return the body of a function that defines the constants and returns ``result``."""
        shared = f"const {', '.join(self.constants)};\n" if self.constants else ""
        return f"{shared}return {result};"


def to_javascript(roots: Sequence, settings: str = "v") -> Code:
    """Write expressions as JavaScript.

    Parameters
    ----------
    roots : sequence of Expression or plain values
        What to write.
    settings : str
        The name of the JavaScript object that holds the variables.

    Returns
    -------
    Code
        ``constants``, a list of ``name = code`` for whatever is used more than once,
        ``expressions``, one piece of code per root, and ``bound_names``, what each bound variable
        is called in them. The code may call :data:`HELPERS`.

    Examples
    --------
    >>> from helpers.formulas.expression import variable
    >>> x = variable("batch") + 1
    >>> code = to_javascript([x * x, x / 2])
    >>> code.constants, code.expressions
    (['_0 = v.batch + 1'], ['_0 * _0', '_0 / 2'])
    """
    writer = _Writer(settings)
    trees = [as_expression(root) for root in roots]  # kept: nodes are known by their id
    numbers = [writer.enter(tree) for tree in trees]
    for number in numbers:
        writer.uses[number] += 1
    writer.name_shared()
    expressions = [writer.text(number) for number in numbers]
    return Code(writer.constants, expressions, writer.bound_names)


def number_literal(value: float | int) -> str:
    """Write a number so that JavaScript reads the same double.

    Examples
    --------
    >>> number_literal(989e12), number_literal(0.1), number_literal(1e22)
    ('989000000000000', '0.1', '1e+22')
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_INTEGER_LIMIT:
        return "-0" if value == 0 and str(value) == "-0.0" else str(int(value))
    return repr(value)


def text_literal(text: str) -> str:
    """Write a text as a JavaScript string that is safe inside a ``<script>`` element.

    Examples
    --------
    >>> text_literal("a < b")
    '"a \\\\u003c b"'
    """
    quoted = json.dumps(text, ensure_ascii=False)
    for character in ("<", "\u2028", "\u2029"):
        quoted = quoted.replace(character, f"\\u{ord(character):04x}")
    return quoted


class _Writer:
    """Numbers the distinct nodes of a forest, then writes them.

    Two nodes that say the same thing get one number, so that a sub-expression that a formula
    happens to build twice is computed once.
    """

    def __init__(self, settings: str) -> None:
        self.settings = settings
        self.numbers: dict[tuple, int] = {}  # what a node says -> its number
        self.seen: dict[int, int] = {}  # id of a node -> its number
        self.nodes: list[Expression] = []
        self.parts: list[tuple[int, ...]] = []
        self.uses: list[int] = []
        self.names: dict[int, str] = {}
        self.constants: list[str] = []
        self.bound_names: dict[object, str] = {}

    def enter(self, node: Expression) -> int:
        """Number a node and everything below it; arguments come before what uses them."""
        if id(node) in self.seen:
            return self.seen[id(node)]
        parts = tuple(self.enter(argument) for argument in node.arguments)
        says = (node.operation, node.detail, parts)
        if says not in self.numbers:
            self.numbers[says] = len(self.nodes)
            self.nodes.append(node)
            self.parts.append(parts)
            self.uses.append(0)
            for part in parts:
                self.uses[part] += 1
        self.seen[id(node)] = self.numbers[says]
        return self.numbers[says]

    def name_shared(self) -> None:
        """Give a name to every node used more than once, leaves and bound ones apart."""
        for number, node in enumerate(self.nodes):
            if node.arguments and self.uses[number] > 1 and not node.bound:
                code = self.text(number)
                self.names[number] = f"_{len(self.names)}"
                self.constants.append(f"{self.names[number]} = {code}")

    def text(self, number: int, outside: int = _CHOICE) -> str:
        """Write one node, in parentheses where the operator outside binds more tightly."""
        if number in self.names:
            return self.names[number]
        code, binding = self.code(number)
        return f"({code})" if binding < outside else code

    def code(self, number: int) -> tuple[str, int]:
        """Write one node without parentheses around it; return also how tightly it binds."""
        node, parts = self.nodes[number], self.parts[number]
        operation = node.operation
        if operation == "constant":
            if isinstance(node.value, bool):
                return ("true" if node.value else "false"), _ATOM
            if isinstance(node.value, str):
                return text_literal(node.value), _ATOM
            code = number_literal(node.value)
            return code, _UNARY if code.startswith("-") else _ATOM
        if operation == "variable":
            return f"{self.settings}.{node.detail}", _ATOM
        if operation == "bound":
            return self.bound_name(node.detail), _ATOM
        if operation in _INFIX:
            sign, binding = _INFIX[operation]
            # a + (b + c) is another double than (a + b) + c, so only the left side may go bare
            pieces = [self.text(part, binding + (i > 0)) for i, part in enumerate(parts)]
            return f" {sign} ".join(pieces), binding
        if operation == "where":
            condition, if_true, if_false = parts
            code = f"{self.text(condition, _OR)} ? {self.text(if_true, _OR)} : "
            return code + self.text(if_false), _CHOICE
        if operation in ("negative", "not"):
            sign = "-" if operation == "negative" else "!"
            return sign + self.text(parts[0], _ATOM), _UNARY
        if operation == "ceil":  # + 0 turns the -0 that Math.ceil(-0.5) gives into Python's 0
            return f"Math.ceil({self.text(parts[0])}) + 0", _SUM
        if operation == "format":
            comma, decimals, percent = node.detail
            flags = [", 1" if comma else ", 0", ", 1" if percent else ", 0"]
            while flags and flags[-1] == ", 0":
                flags.pop()
            return f"format({self.text(parts[0])}, {decimals}{''.join(flags)})", _ATOM
        if operation == "argmax":
            candidates, bound = node.detail
            xs = ", ".join(number_literal(x) for x in candidates)
            return (
                f"argmax([{xs}], {self.bound_name(bound.detail)} => {self.text(parts[0])})",
                _ATOM,
            )
        arguments = ", ".join(self.text(part) for part in parts)
        return f"{_CALLS[operation]}({arguments})", _ATOM

    def bound_name(self, bound: object) -> str:
        """Return the name of a bound variable: x, then x1, x2 ... for further ones."""
        number = len(self.bound_names)
        return self.bound_names.setdefault(bound, f"x{number or ''}")
