"""The numbers of questions: typed, cited from the catalog, or computed by the book's formulas."""

from __future__ import annotations

import ast
import difflib
import importlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.catalog import facts
from helpers.catalog.quantities import (
    Quantity,
    QuantityError,
    format_number,
    format_quantity,
    parse_quantity,
    parse_unit,
)
from helpers.formulas.registry import UnknownName


@dataclass(frozen=True)
class Formula:
    """A call of one of the book's formulas; each argument is again a value."""

    formula: str
    args: tuple[tuple[str, ValueSpec], ...]
    field: str | None = None


@dataclass(frozen=True)
class Expression:
    """Arithmetic over names, kept as its source text."""

    source: str


@dataclass(frozen=True)
class Given:
    """A number that only the reader's own notebook knows."""

    what: str


@dataclass(frozen=True)
class PlainText:
    """A word handed to a formula as it stands, such as the name of a number format."""

    text: str


#: what a value may be written as; a string is a quantity, a name, a catalog path or an id
ValueSpec = float | str | Formula | Expression | Given | PlainText

_FORMS = (
    "a number, a quantity such as '3.35 TB/s', a catalog path such as h100-sxm.peak.bf16, a name "
    "from values, '= arithmetic', {formula: ..., args: ...} or {given: ...}"
)
#: units that a formula's argument or result must agree in; counts and ratios are left alone
_STRICT = frozenset({"B", "B/s", "FLOP", "FLOP/s", "FLOP/B", "s", "W", "J", "token/s"})
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "sqrt": math.sqrt,
    "log2": math.log2,
    "log10": math.log10,
    "ceil": math.ceil,
    "floor": math.floor,
}
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def parse_spec(raw: Any) -> ValueSpec:
    """Check the form of a value as a question file writes it; nothing is computed yet.

    Raises
    ------
    ValueError
        If it has none of the allowed forms.

    Examples
    --------
    >>> parse_spec("= 2 * peak / bandwidth")
    Expression(source='2 * peak / bandwidth')
    >>> parse_spec({"formula": "roofline.ridge_point"}).formula
    'roofline.ridge_point'
    """
    if isinstance(raw, Formula | Expression | Given | PlainText):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        if not math.isfinite(raw):
            raise ValueError(f"{raw} is not a finite number")
        return float(raw)
    if isinstance(raw, str) and raw.strip():
        text = raw.strip()
        if not text.startswith("="):
            return text
        source = text.removeprefix("=").strip()
        _tree(source)
        return Expression(source)
    if isinstance(raw, dict):
        keys = set(raw)
        if keys == {"given"} and isinstance(raw["given"], str):
            return Given(raw["given"])
        if keys == {"text"} and isinstance(raw["text"], str):
            return PlainText(raw["text"])
        if "formula" in keys and keys <= {"formula", "args", "field"}:
            args = raw.get("args") or {}
            if not isinstance(args, dict):
                raise ValueError(f"args {args!r} is not a mapping of argument names to values")
            parsed = tuple((str(name), parse_spec(value)) for name, value in args.items())
            return Formula(str(raw["formula"]), parsed, raw.get("field"))
        raise ValueError(
            f"keys {', '.join(sorted(map(str, keys)))} are not understood; write {_FORMS}"
        )
    raise ValueError(f"{raw!r} is not a value; write {_FORMS}")


def _tree(source: str) -> ast.expr:
    try:
        return ast.parse(source, mode="eval").body
    except SyntaxError:
        raise ValueError(
            f"'= {source}' is not arithmetic, such as '= 2 * peak / bandwidth'"
        ) from None


def _compute(node: ast.expr, names: Mapping[str, Any], source: str) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Name):
        return lookup("name", node.id, names, why=" in values")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_compute(node.operand, names, source)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = (_compute(part, names, source) for part in (node.left, node.right))
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = lookup("function", node.func.id, _FUNCTIONS)
        return function(*(_compute(part, names, source) for part in node.args))
    raise ValueError(
        f"'= {source}': {ast.unparse(node)!r} is not allowed; use + - * / **, numbers, names from "
        f"values and {', '.join(_FUNCTIONS)}"
    )


def evaluate(spec: ValueSpec, names: Mapping[str, Any], unit: str | None = None) -> float:
    """Compute a value, in SI base units.

    Parameters
    ----------
    spec : ValueSpec
        What to compute.
    names : mapping
        The question's named numbers.
    unit : str, optional
        The unit it will be shown in; a quantity of another kind is an error.

    Raises
    ------
    ValueError
        If it cannot be computed, is not one finite number, or has the wrong unit.

    Examples
    --------
    >>> evaluate(parse_spec("= 2 * a"), {"a": 21.0})
    42.0
    >>> evaluate("3.35 TB/s", {}, unit="GB/s")
    Quantity(3350000000000.0, 'B/s')
    """
    value = _resolve(spec, names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{spec!r} gives {value!r}, which is not one number") from None
    if not math.isfinite(value):
        raise ValueError(f"{spec!r} gives {value}, which is not a finite number")
    have = getattr(value, "unit", "")
    if unit is not None and have:
        base, _ = unit_scale(unit)
        have_base, have_size = unit_scale(have)
        if have_base != base:
            raise ValueError(f"{spec!r} is in {have}, but unit says {unit!r}")
        if have_size != 1:  # per cent
            return float(value) * have_size
    return value if isinstance(value, Quantity) else float(value)


def _resolve(spec: ValueSpec, names: Mapping[str, Any]) -> Any:
    if isinstance(spec, float):
        return spec
    if isinstance(spec, Expression):
        return _compute(_tree(spec.source), names, spec.source)
    if isinstance(spec, PlainText):
        return spec.text
    if isinstance(spec, Given):
        raise ValueError(f"it is given by the reader's notebook: {spec.what}")
    if isinstance(spec, Formula):
        function = _formula(spec.formula)
        arguments = {name: _resolve(value, names) for name, value in spec.args}
        return _call(spec, function, arguments)
    if spec in names:
        return names[spec]
    if re.match(r"[$+-]?\.?\d", spec):
        return parse_quantity(spec)
    return catalog_value(spec)


def _call(spec: Formula, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a formula; where it is registered, hold the units of arguments and result together."""
    entry = getattr(function, "formula", None)
    for name, value in arguments.items():
        have, symbol = getattr(value, "unit", ""), entry and entry.symbols.get(name)
        if have in _STRICT and symbol and symbol.unit in _STRICT and have != symbol.unit:
            raise ValueError(f"formula {spec.formula}: {name} is in {symbol.unit}, but gets {have}")
    try:
        result = function(**arguments)
    except TypeError as error:
        raise ValueError(f"formula {spec.formula}: {error}") from error
    if spec.field is not None:
        return _attribute(spec.formula, result, spec.field)
    return Quantity(result, entry.unit) if entry and entry.unit in _STRICT else result


def _attribute(name: str, result: Any, field: str) -> Any:
    if not hasattr(result, field):
        raise ValueError(f"formula {name}: its result has no field {field!r}")
    return getattr(result, field)


def _formula(path: str) -> Callable[..., Any]:
    module_name, _, function_name = path.rpartition(".")
    if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", module_name):
        raise ValueError(f"formula {path!r}: write module.function, such as roofline.ridge_point")
    try:
        module = importlib.import_module(f"helpers.formulas.{module_name}")
    except ImportError:
        raise ValueError(f"formula {path!r}: there is no helpers.formulas.{module_name}") from None
    functions = {n: f for n, f in vars(module).items() if callable(f) and not n.startswith("_")}
    return lookup(f"function of helpers.formulas.{module_name}", function_name, functions)


def catalog_value(path: str) -> Any:
    """A figure of the catalog by its path, or a whole record by its id.

    Parameters
    ----------
    path : str
        Such as ``h100-sxm.peak.bf16``, ``llama-3.1-8b.layers`` or just ``llama-3.1-8b``.

    Raises
    ------
    ValueError
        If there is no such record or figure.
    """
    try:
        return facts.value(path)
    except (LookupError, ValueError) as error:
        reason = error.args[0] if error.args else error
        message = f"{path!r} is not a name from values, nor a path in the catalog: {reason}"
        raise ValueError(message) from error


def given_names(specs: Mapping[str, ValueSpec]) -> tuple[str, ...]:
    """The names that a reader's notebook has to hand over."""
    return tuple(name for name, spec in specs.items() if isinstance(spec, Given))


def evaluate_all(specs: Mapping[str, ValueSpec], given: Mapping[str, float]) -> dict[str, Any]:
    """Compute named values in order; a later one may use an earlier one."""
    for name in given:
        lookup("value", name, specs)
    known: dict[str, Any] = {}
    for name, spec in specs.items():
        if name in given:
            known[name] = parse_quantity(given[name])
            continue
        try:
            known[name] = _resolve(spec, known)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{name}: {error.args[0] if error.args else error}") from error
    return known


def unit_scale(unit: str) -> tuple[str, float]:
    """The base unit of a unit and its size; per cent is a plain number here.

    Raises
    ------
    ValueError
        If the unit is unknown.

    Examples
    --------
    >>> unit_scale("TB/s"), unit_scale("%")
    (('B/s', 1000000000000.0), ('', 0.01))
    """
    if unit == "%":
        return "", 0.01
    known = parse_unit(unit)
    return known.base, float(known.size)


def parse_tolerance(text: str, unit: str) -> tuple[float, float]:
    """Read a tolerance such as ``2%``, ``0.1 ms`` or ``1% + 2 token``.

    Returns
    -------
    tuple of float
        The relative part, and the absolute part in base units.

    Examples
    --------
    >>> parse_tolerance("2%", "TB/s"), parse_tolerance("1% + 0.1 ms", "s")
    ((0.02, 0.0), (0.01, 0.0001))
    """
    relative = absolute = 0.0
    base, _ = unit_scale(unit)
    for part in str(text).split("+"):
        written = part.strip()
        if written.endswith("%"):
            relative += float(parse_quantity(written)) / 100
        else:
            absolute += float(parse_quantity(written, expect=base))
    if relative < 0 or absolute < 0 or relative + absolute == 0 or relative > 1:
        raise ValueError("must be above zero and at most 100%, such as '2%' or '0.1 ms'")
    return relative, absolute


def show_number(value: float, unit: str, digits: int = 3) -> str:
    """A number in the unit asked for, with a no-break space before the unit.

    Examples
    --------
    >>> show_number(295.3432, "FLOP/B"), show_number(0.371, "%")
    ('295\\xa0FLOP/B', '37.1%')
    """
    if unit == "%":
        return f"{format_number(value * 100, digits)}%"
    _, size = unit_scale(unit)
    return f"{format_number(value / size, digits)} {unit}".rstrip().replace(" ", "\u00a0")


_INSERTION = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_PARTS = re.compile(
    r"(?P<name>[^\s:]+)(?:\s+(?P<how>in|as)\s+(?P<unit>[^\s:]+))?\s*(?::(?P<format>\S+))?"
)


def fill(text: str, names: Mapping[str, Any]) -> str:
    """Replace each ``{{name in unit :format}}`` by its number and unit (``as`` for in: no unit).

    Raises
    ------
    ValueError
        If an insertion cannot be read or computed.

    Examples
    --------
    >>> fill("reads {{b in TB/s :.2f}}, {{b as GB/s}} a second", {"b": 3.35e12})
    'reads 3.35\\xa0TB/s, 3,350 a second'
    """

    def insert(match: re.Match[str]) -> str:
        parts = _PARTS.fullmatch(match[1])
        if not parts:
            raise ValueError(f"{match[0]} is not '{{{{name in unit :format}}}}'")
        name, unit = parts["name"], parts["unit"]
        value = names[name] if name in names else catalog_value(name)
        if type(value) is int:  # a count of the catalog, such as layers
            value = float(value)
        if unit is None and parts["format"] is None and getattr(value, "unit", ""):
            return format_quantity(value).replace(" ", "\u00a0")
        number = evaluate(float(value) if unit is None else value, {}, unit=unit)
        scaled = float(number) / unit_scale(unit)[1] if unit else float(number)
        try:
            shown = format(scaled, parts["format"]) if parts["format"] else format_number(scaled)
        except ValueError:
            raise ValueError(f"{match[0]}: {parts['format']!r} is not a number format") from None
        if unit is None or parts["how"] == "as":
            return shown
        if re.match(rf"\s*{re.escape(unit)}(?![\w/])", text[match.end() :]):
            raise ValueError(f"{match[0]} already prints {unit}; it stands there a second time")
        return f"{shown}%" if unit == "%" else f"{shown}\u00a0{unit}"

    return _INSERTION.sub(insert, text)


def lookup(kind: str, name: str, known: Mapping[str, Any] | Iterable[str], why: str = "") -> Any:
    """``known[name]``, or an error that suggests what is near.

    Raises
    ------
    UnknownName
        A KeyError, if there is no such name.
    """
    if name in known:
        return known[name]
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    raise UnknownName(f"{kind}: {name!r} is not known{why}; {hint}")


__all__ = [
    "QuantityError",
    "UnknownName",
    "ValueSpec",
    "catalog_value",
    "evaluate",
    "evaluate_all",
    "fill",
    "given_names",
    "lookup",
    "parse_spec",
    "parse_tolerance",
    "show_number",
    "unit_scale",
]
