"""Expression trees: JavaScript in V8 gives Python's doubles, misuse raises, LaTeX reads well."""

from __future__ import annotations

import json
import math
import operator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from py_mini_racer import MiniRacer

from helpers.formulas import ops
from helpers.formulas.expression import (
    Expression,
    Templates,
    apply,
    constant,
    evaluate,
    formatted,
    plain,
    variable,
)
from helpers.formulas.javascript import HELPERS, number_literal, text_literal, to_javascript
from helpers.formulas.latex import to_latex

settings.register_profile("one-engine", settings.default, deadline=None)
settings.load_profile("one-engine")


@pytest.fixture(scope="module")
def v8():
    """One V8 for all tests of this module, with the helpers that emitted code may call."""
    engine = MiniRacer()
    engine.eval(HELPERS.replace("const ", "globalThis."))
    return engine


def run(v8, roots, values):
    """Evaluate expressions in V8 for values of their variables; JSON carries doubles exactly."""
    code = to_javascript(roots)
    body = code.function_body(f"[{', '.join(code.expressions)}]")
    # JSON writes a large double as the shortest digits that name it; as a Python int those digits
    # would be another number, so every number is read as the double that it is
    text = v8.eval(f"JSON.stringify((v => {{ {body} }})({json.dumps(values)}))")
    return json.loads(text, parse_int=float)


# ---- random trees ------------------------------------------------------------------------------

EXACT = ["add", "subtract", "multiply", "divide", "minimum", "maximum"]
COMPARISONS = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}
NAMES = ["a", "b", "chip.peak"]
VALUES = st.one_of(
    st.integers(-1000, 1000), st.floats(-1e6, 1e6), st.sampled_from([1e15, 3.35e12, 0.1, 2**-30])
)


@st.composite
def trees(draw):
    """Return a random tree, built the way formulas build it, and its variables' values."""
    values = {name: draw(VALUES) for name in NAMES}
    nodes: list = [variable(name, value) for name, value in values.items()]
    nodes += [draw(VALUES) for _ in range(2)]
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from([*EXACT, "where", "negative", "floor", "ceil", "sqrt"]))
        left, right = draw(st.sampled_from(nodes)), draw(st.sampled_from(nodes))
        try:
            if kind == "where":
                compare = apply(draw(st.sampled_from(list(COMPARISONS))), left, right)
                nodes.append(ops.where(compare, draw(st.sampled_from(nodes)), left))
            elif kind in EXACT:
                nodes.append(apply(kind, left, right))
            else:
                nodes.append(apply(kind, left))
        except (ArithmeticError, ValueError):  # the guards: division by zero, overflow, sqrt(-1)
            continue
    return nodes[-1], values


@given(trees())
@settings(max_examples=300)
def test_exact_operations_agree_bit_for_bit(v8, tree):
    root, values = tree
    assume(isinstance(root, Expression))
    nested = {"a": values["a"], "b": values["b"], "chip": {"peak": values["chip.peak"]}}
    (found,) = run(v8, [root], nested)
    assert found == root.value
    assert evaluate([root], values) == [root.value]


@given(st.floats(1e-6, 1e6), st.floats(-8, 8))
def test_library_functions_agree_to_the_last_bit_or_the_one_before(v8, x, y):
    a, b = variable("a", x), variable("b", y)
    roots = [a**b, ops.exp(b), ops.log(a), ops.log2(a), ops.log10(a), ops.absolute(b)]
    for found, root in zip(run(v8, roots, {"a": x, "b": y}), roots, strict=True):
        assert abs(found - root.value) <= math.ulp(root.value), root


@given(st.integers(-30, 30))
def test_powers_of_two_are_exact(v8, n):
    x = variable("n", n)
    assert run(v8, [2.0**x, ops.log2(2.0**x)], {"n": n}) == [2.0**n, n]


def test_argmax_and_nested_functions(v8):
    a = variable("a", 7)
    best = ops.argmax(range(17), lambda k: k * (a - k))
    nested = ops.argmax(
        range(5), lambda k: k * ops.argmax([1, 2, 3], lambda j: -((j * k - a) ** 2))
    )
    for value in range(30):
        truth = ops.argmax(range(17), lambda k, a=value: k * (a - k))
        deep = ops.argmax(
            range(5),
            lambda k, a=value: k * ops.argmax([1, 2, 3], lambda j: -((j * k - a) ** 2)),
        )
        assert run(v8, [best, nested], {"a": value}) == [truth, deep]
        assert evaluate([best, nested], {"a": value}) == [truth, deep]


def test_shared_parts_become_constants_once():
    x = variable("x")
    first, second = (x + 1) * 2, (x + 1) * 2  # built twice, computed once
    code = to_javascript([first / 3, second / 4, x])
    assert code.constants == ["_0 = (v.x + 1) * 2"]
    assert code.expressions == ["_0 / 3", "_0 / 4", "v.x"]


def test_one_and_true_and_one_point_zero_stay_apart(v8):
    x = variable("x", 1)
    roots = [constant(1), constant(True), constant(1.0), ops.where(x > 0, True, False)]
    assert to_javascript(roots).expressions == ["1", "true", "1", "v.x > 0 ? true : false"]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda a, b: a - (b - 1), "v.a - (v.b - 1)"),
        (lambda a, b: (a - b) - 1, "v.a - v.b - 1"),
        (lambda a, b: a + (b + 1), "v.a + (v.b + 1)"),
        (lambda a, b: a / (b * 2), "v.a / (v.b * 2)"),
        (lambda a, b: -(-a), "-(-v.a)"),  # noqa: B002
        (lambda a, b: a - -1, "v.a - -1"),
        (lambda a, b: (-a) ** 2, "Math.pow(-v.a, 2)"),
        (lambda a, b: (a < b) & ~(a == b), "v.a < v.b && !(v.a === v.b)"),
        (
            lambda a, b: ops.where(a < b, 1, ops.where(a > b, 2, 3)),
            "v.a < v.b ? 1 : v.a > v.b ? 2 : 3",
        ),
        (lambda a, b: 2 * ops.where(a < b, 1, 2), "2 * (v.a < v.b ? 1 : 2)"),
        (lambda a, b: ops.total([a, b, 1]), "v.a + v.b + 1"),
        (lambda a, b: abs(a) + (+b), "Math.abs(v.a) + v.b"),
    ],
)
def test_parentheses_keep_pythons_order(build, text):
    assert to_javascript([build(variable("a"), variable("b"))]).expressions == [text]


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53)))
def test_number_literals_read_back(v8, x):
    found = v8.eval(f"String(Object.is({number_literal(x)}, -0) ? '-0' : {number_literal(x)})")
    assert float(found) == float(x)


@given(st.text())
def test_text_literals_read_back_and_cannot_end_a_script(v8, text):
    literal = text_literal(text)
    assert "<" not in literal
    assert json.loads(v8.eval(f"JSON.stringify({literal})")) == text


# ---- number formats ----------------------------------------------------------------------------

SPECS = [".0f", ".1f", ".2f", ".6f", ",.0f", ",.1f", ",.3f", ".0%", ".1%", ".2%", ",.1%"]


def formats_agree(v8, numbers):
    x = variable("x", 1.0)
    code = to_javascript([formatted(x, spec) for spec in SPECS])
    found = json.loads(
        v8.eval(
            f"JSON.stringify({json.dumps(numbers)}.map(x => [{{x}}].map(v =>"
            f"[{', '.join(code.expressions)}])[0]))"
        )
    )
    for number, texts in zip(numbers, found, strict=True):
        assert texts == [format(number, spec) for spec in SPECS], number


def test_formats_on_exact_ties(v8):
    halves = [n + 0.5 for n in range(-300, 300)]
    eighths = [n / 8 for n in range(-999, 999)]
    small = [n / 2**k for n in range(1, 40, 2) for k in range(12)]
    percents = [n / 800 for n in range(400)]
    formats_agree(v8, halves + eighths + small + percents)


def test_formats_on_whole_numbers_and_extremes(v8):
    sizes = [10**k + d for k in range(15) for d in (-1, 0, 1)]
    formats_agree(v8, sizes + [-n for n in sizes] + [1e-9, 5e-324, 1e18, 123456789012345.6])


@given(st.lists(st.floats(-1e15, 1e15).filter(lambda x: x != 0), min_size=30, max_size=30))
def test_formats_on_random_numbers(v8, numbers):
    formats_agree(v8, [*numbers, *(x / 1e12 for x in numbers if x / 1e12)])


def test_an_f_string_becomes_one_expression(v8):
    templates = Templates()
    x = variable("x", 1234.5, templates=templates)
    name = variable("chip.name", "H<100>", templates=templates)
    text = templates.resolve(f"{name}: {x:,.0f} of {x / 1e4:.1%}")
    assert text.value == "H<100>: 1,234 of 12.3%"
    assert run(v8, [text], {"x": 2, "chip": {"name": "A"}}) == ["A: 2 of 0.0%"]
    assert templates.resolve("plain") == "plain"
    assert templates.resolve(f"{name}") is name  # the text itself


def test_texts_choose_and_join(v8):
    templates = Templates()
    x = variable("x", 3, templates=templates)
    text = "so: " + ops.where(x < 4, f"{x:.1f} fits", "too long") + "."
    assert text.value == "so: 3.0 fits."
    assert run(v8, [text], {"x": 9}) == ["so: too long."]


def test_texts_of_two_drawings_do_not_mix():
    one, other = Templates(), Templates()
    x, y = variable("x", 1.0, templates=one), variable("y", 2.0, templates=other)
    with pytest.raises(ValueError, match="two drawings"):
        x + y
    with pytest.raises(ValueError, match="another drawing"):
        other.resolve(f"{x:.1f}")


# ---- misuse ------------------------------------------------------------------------------------

MISUSE = {
    "if": lambda x: 1 if x else 2,
    "if comparison": lambda x: 1 if x > 2 else 2,
    "min": lambda x: min(x, 2),
    "max": lambda x: max(1, x),
    "sorted": lambda x: sorted([x, 1]),
    "chained comparison": lambda x: 1 < x < 5,
    "and": lambda x: x > 1 and x < 5,
    "or": lambda x: x > 1 or x < 5,
    "not": lambda x: not x > 1,
    "in": lambda x: x in [1, 2],
    "contains": lambda x: 1 in x,
    "any": lambda x: any([x > 1]),
    "//": lambda x: x // 2,
    "right //": lambda x: 7 // x,
    "%": lambda x: x % 2,
    "right %": lambda x: 7 % x,
    "divmod": lambda x: divmod(x, 2),
    "pow with modulus": lambda x: pow(x, 2, 5),
    "round": lambda x: round(x),
    "round digits": lambda x: round(x, 1),
    "int": int,
    "float": float,
    "complex": complex,
    "trunc": math.trunc,
    "math.floor": math.floor,
    "math.ceil": math.ceil,
    "math.log": math.log,
    "math.sqrt": math.sqrt,
    "math.pow": lambda x: math.pow(x, 2),
    "math.isclose": lambda x: math.isclose(x, 3),
    "index": lambda x: [1, 2, 3, 4][x],
    "getitem": lambda x: x[0],
    "range": lambda x: range(x),
    "repeat": lambda x: "ab" * x,
    "bytes": lambda x: bytes(x),
    "loop": lambda x: [y for y in x],
    "unpack": lambda x: [*x],
    "len": len,
    "str": str,
    "%d": lambda x: "%d" % x,  # noqa: UP031
    "%f": lambda x: "%f" % x,  # noqa: UP031
    "%s": lambda x: "%s" % x,  # noqa: UP031
    "f-string without format": lambda x: f"{x}",
    "f-string .3g": lambda x: f"{x:.3g}",
    "f-string width": lambda x: f"{x:10.2f}",
    "f-string sign": lambda x: f"{x:+.2f}",
    "f-string d": lambda x: f"{x:d}",
    "f-string e": lambda x: f"{x:.2e}",
    "f-string of a condition": lambda x: f"{x > 1}",
    "too many decimals": lambda x: f"{x:.25f}",
    "str.format": lambda x: "{:d}".format(x),  # noqa: UP032
    "np.minimum": lambda x: np.minimum(x, 1),
    "np.log2": lambda x: np.log2(x),
    "np.maximum.reduce": lambda x: np.maximum.reduce([x, x]),
    "np.where": lambda x: np.where(x > 1, 1, 2),
    "np.clip": lambda x: np.clip(x, 0, 1),
    "np.array operand": lambda x: np.array([1.0, 2.0]) * x,
    "operand np.array": lambda x: x * np.array([1.0, 2.0]),
    "list operand": lambda x: x + [1],  # noqa: RUF005
    "None operand": lambda x: x * None,
    "too large": lambda x: x * 2**53,
    "large constant": lambda x: ops.where(x < 2**60, 1, 2),
    "infinite": lambda x: x * math.inf,
    "nan": lambda x: x + math.nan,
    "overflow": lambda x: x * 1e308 * 1e308,
    "complex power": lambda x: (-x) ** 0.5,
    "division by zero": lambda x: 1 / (x - 3),
    "log of zero": lambda x: ops.log(x - 3),
    "condition as a number": lambda x: (x > 1) + 1,
    "number as a condition": lambda x: ops.where(x, 1, 2),
    "& of numbers": lambda x: x & 1,
    "~ of a number": lambda x: ~x,
    "text and number": lambda x: x + "a",
    "ordered texts": lambda x: ops.where(x > 1, "a", "b") < "c",
    "branches of two kinds": lambda x: ops.where(x > 1, "a", 1),
    "bool of text": lambda x: bool(ops.where(x > 1, "a", "")),
    "total of one": lambda x: ops.total(x),
    "huge number in digits": lambda x: f"{x * 1e25:.1f}",
    "shift": lambda x: 1 << x,
    "matmul": lambda x: x @ x,
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_raises(name):
    x = variable("x", 3, templates=Templates())
    with pytest.raises((TypeError, ValueError, ArithmeticError)) as caught:
        MISUSE[name](x)
    assert str(caught.value)


@pytest.mark.parametrize("name", ["if", "min", "np.minimum", "math.log", "//", "round", "index"])
def test_messages_name_the_way_out(name):
    with pytest.raises(TypeError, match=r"use .*helpers\.formulas"):
        MISUSE[name](variable("x", 3))


def test_what_is_right_is_let_through(v8):
    x = variable("x", 3)
    roots = [
        np.float64(2) * x,
        np.float64(2) - x,
        np.int64(7) / x,
        sum([x, x]),
        x * np.float32(0.5),
    ]
    assert [root.value for root in roots] == [6.0, -1.0, 7 / 3, 6, 1.5]
    assert run(v8, roots, {"x": 5}) == [10, -3, 7 / 5, 10, 2.5]


def test_a_unit_carrying_float_becomes_a_plain_one():
    class Metres(float):
        def __repr__(self):
            return "three metres"

    x = variable("x", Metres(3.0))
    assert type(x.value) is float
    assert to_javascript([x * Metres(2.0)]).expressions == ["v.x * 2"]


def test_bad_names_and_unknown_operations():
    for name in ("", "a b", "a.", "1a", None, "a;alert(1)"):
        with pytest.raises(ValueError, match="name"):
            variable(name)
    with pytest.raises(ValueError, match="operation: 'modulo' is unknown"):
        apply("modulo", 1, 2)


def test_symbols_without_numbers_build_trees():
    x = variable("x")
    tree = ops.where(ops.minimum(x, 3) < 2, ops.log(x), ops.argmax([1, 2], lambda k: k * x))
    assert tree.value is None and plain(tree) is None
    assert evaluate([tree], {"x": 1}) == [0.0]


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "power"])
def test_reflected_operators(name):
    function = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul}.get(
        name, operator.pow
    )
    x = variable("x", 3)
    assert (function(5, x).value, function(x, 5).value) == (function(5, 3), function(3, 5))


# ---- LaTeX -------------------------------------------------------------------------------------

LATEX = [
    (lambda a, b, c: a / b, r"\frac{a}{b}"),
    (lambda a, b, c: a / b / c, r"\frac{a}{b c}"),
    (lambda a, b, c: a / (b / c), r"\frac{a c}{b}"),
    (lambda a, b, c: a * (b + c), r"a \left(b + c\right)"),
    (lambda a, b, c: (a + b) / (a - b), r"\frac{a + b}{a - b}"),
    (lambda a, b, c: a - (b - c), r"a - \left(b - c\right)"),
    (lambda a, b, c: a - (b + c), r"a - \left(b + c\right)"),
    (lambda a, b, c: a + -b, "a - b"),
    (lambda a, b, c: a + -2, "a - 2"),
    (lambda a, b, c: -(a + b), r"-\left(a + b\right)"),
    (lambda a, b, c: -2 * a, "-2 a"),
    (lambda a, b, c: a * 2, "2 a"),
    (lambda a, b, c: a * -b, r"a \left(-b\right)"),
    (lambda a, b, c: a**2, "a^{2}"),
    (lambda a, b, c: -(a**2), "-a^{2}"),
    (lambda a, b, c: (-a) ** 2, r"\left(-a\right)^{2}"),
    (lambda a, b, c: (a * b) ** c, r"\left(a b\right)^{c}"),
    (lambda a, b, c: a ** (b + 1), "a^{b + 1}"),
    (lambda a, b, c: (a**b) ** c, r"\left(a^{b}\right)^{c}"),
    (lambda a, b, c: (a / b) ** 2, r"\left(\frac{a}{b}\right)^{2}"),
    (lambda a, b, c: a**0.5, r"\sqrt{a}"),
    (lambda a, b, c: ops.sqrt(a + b), r"\sqrt{a + b}"),
    (lambda a, b, c: ops.exp(-a / b), r"e^{\frac{-a}{b}}"),
    (lambda a, b, c: ops.minimum(a, b * c), r"\min\left(a, b c\right)"),
    (lambda a, b, c: ops.maximum(a, 0) / 2, r"\frac{\max\left(a, 0\right)}{2}"),
    (lambda a, b, c: ops.ceil(a / b) * c, r"\left\lceil \frac{a}{b} \right\rceil c"),
    (lambda a, b, c: ops.floor(a), r"\left\lfloor a \right\rfloor"),
    (lambda a, b, c: abs(a), r"\left\lvert a \right\rvert"),
    (
        lambda a, b, c: ops.log(a) + ops.log2(b) - ops.log10(c),
        r"\ln\left(a\right) + \log_2\left(b\right) - \log_{10}\left(c\right)",
    ),
    (
        lambda a, b, c: ops.where(a <= b, a, ops.where(a != c, b, 0)),
        r"\begin{cases} a & \text{if } a \le b \\ b & \text{if } a \ne c \\ 0 & \text{otherwise}"
        r" \end{cases}",
    ),
    (lambda a, b, c: (a < b) & (b < c), r"a < b \text{ and } b < c"),
    (
        lambda a, b, c: ops.argmax(range(9), lambda k: a * k),
        r"\arg\max_{k \in \{0, \dots, 8\}} a k",
    ),
    (lambda a, b, c: ops.total([a, b, c]), "a + b + c"),
    (lambda a, b, c: a / 1e12, r"\frac{a}{10^{12}}"),
    (lambda a, b, c: 3.35e12 * a, r"3.35 \times 10^{12} a"),
    (lambda a, b, c: 0.5 * a, "0.5 a"),
    (lambda a, b, c: 16384 * a, r"16\,384 a"),
    (lambda a, b, c: 1024.0 * a, "1024 a"),
    (lambda a, b, c: 1 / a, r"\frac{1}{a}"),
    (lambda a, b, c: 2 * 3.0**a, r"2 \cdot 3^{a}"),
]


@pytest.mark.parametrize(("build", "latex"), LATEX)
def test_latex(build, latex):
    assert to_latex(build(variable("a"), variable("b"), variable("c"))) == latex


def test_latex_of_given_and_long_names():
    peak = variable("peak", latex=r"P_\text{max}")
    assert to_latex(2 * peak * variable("B")) == r"2 \, P_\text{max} \, B"
    assert to_latex(variable("d_model") + 1) == r"\mathit{d\_model} + 1"
    squared = variable("r", latex="r^*")
    assert to_latex(squared**2) == r"\left(r^*\right)^{2}"


def test_latex_refuses_text_with_numbers():
    with pytest.raises(TypeError, match="makes text"):
        to_latex(formatted(variable("x"), ".1f"))


@given(trees())
def test_latex_of_any_tree_is_balanced(tree):
    root, _ = tree
    code = to_latex(root)
    assert code.count("{") == code.count("}")
    assert code.count(r"\left") == code.count(r"\right")
