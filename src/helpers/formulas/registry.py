"""Register a formula once: a plain Python function with a meaning, units, a source and a number.

``@formula`` leaves the function what it is. Numbers in give a number, arrays an array, expressions
an expression: the body is written with ``+ - * / **`` and :mod:`helpers.formulas.ops`. The
decorator adds what a page and a test need (symbols with units, the source, where it holds, a
worked number), a docstring made from them, and one check of every plain argument.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np

from helpers.catalog.quantities import Quantity

from .ops import is_symbolic
from .symbols import VOCABULARY, Symbol

__all__ = ["Formula", "Symbol", "UnknownName", "all_formulas", "formula", "get", "latex_of"]


class UnknownName(KeyError):
    """A name that does not exist; unlike a plain KeyError, it prints its message unquoted."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


_FORMULAS: dict[str, Formula] = {}

#: chapters in the order of the book; a formula belongs to the one that teaches it
CHAPTERS = (
    "roofline",
    "memory",
    "parallelism",
    "precision",
    "compression",
    "kv-cache",
    "serving",
    "economics",
)


@dataclass(frozen=True)
class Formula:
    """A registered formula: the function and what is known about it."""

    name: str
    function: Callable
    meaning: str
    symbol: str
    unit: str
    symbols: Mapping[str, Symbol]
    source: str
    where: str
    valid: str
    worked: Mapping[str, float]
    result: float
    chapter: str

    @property
    def path(self) -> str:
        """Where to import it from, such as ``helpers.formulas.roofline.ridge_point``."""
        return f"{self.function.__module__}.{self.name}"

    @property
    def latex(self) -> str:
        """The formula as LaTeX: its symbol, ``=``, and what the function computes."""
        return f"{self.symbol} = {latex_of(self.function)}"

    def compute_worked(self) -> float:
        """Call the function with the worked example's arguments."""
        return self.function(**self.worked)


def formula(
    *,
    meaning: str,
    symbol: str,
    unit: str,
    worked: Mapping[str, float],
    valid: str,
    source: str = "",
    where: str = "",
    symbols: Mapping[str, Symbol] | None = None,
    chapter: str = "roofline",
) -> Callable[[Callable], Callable]:
    """Register the decorated function as a formula of the book.

    Parameters
    ----------
    meaning : str
        One line: what it gives.
    symbol, unit : str
        Letter (LaTeX) and unit of the result; ``"1"`` for a pure number.
    worked : mapping
        The arguments of a worked example, and under ``"result"`` what it must give.
    valid : str
        Where the formula holds, and what it leaves out.
    source, where : str
        Key of a source in the catalog and the place in it; empty for a definition of our own.
    symbols : mapping, optional
        Symbols of arguments that :data:`helpers.formulas.symbols.VOCABULARY` lacks, or that mean
        something else here.
    chapter : str
        Which chapter teaches it.

    Raises
    ------
    ValueError
        If an argument has no symbol, the worked example does not fit the arguments, or the name
        or chapter is already taken or unknown.

    Examples
    --------
    >>> ridge = get("ridge_point")
    >>> ridge.symbol, ridge.unit
    ('I^*', 'FLOP/B')
    >>> round(ridge.function(peak_flops_per_s=312e12, bandwidth_bytes_per_s=2.0e12))
    156
    >>> ridge.function(312e12, 0)
    Traceback (most recent call last):
        ...
    ValueError: ridge_point: bandwidth_bytes_per_s: 0 is not allowed; allowed is a finite number \
above 0 (memory bandwidth, in B/s)
    """

    def register(function: Callable) -> Callable:
        name = function.__name__
        parameters = list(inspect.signature(function).parameters)
        known = _symbols_of(name, parameters, symbols or {})
        if set(worked) != {*parameters, "result"}:
            raise ValueError(
                f"formula {name}: worked: has {sorted(worked)}; "
                f"allowed are exactly {sorted([*parameters, 'result'])}"
            )
        if name in _FORMULAS and _FORMULAS[name].function.__module__ != function.__module__:
            raise ValueError(f"formula {name}: name: taken by {_FORMULAS[name].path}")
        if chapter not in CHAPTERS:
            raise ValueError(f"formula {name}: chapter: {chapter!r} is none of {CHAPTERS}")

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(parameters, args, strict=False)) | kwargs
            for argument, value in given.items():
                if argument in known:  # an unknown name is Python's own error below
                    _check(name, argument, value, known[argument])
            _check_shapes(name, given)
            result = function(*args, **kwargs)
            if isinstance(result, complex) or (
                isinstance(result, float) and not math.isfinite(result)
            ):
                raise ValueError(f"{name}: {given} gives {result}; it holds for: {valid}")
            return result

        arguments = {key: value for key, value in worked.items() if key != "result"}
        entry = Formula(
            name=name,
            function=checked,
            meaning=meaning,
            symbol=symbol,
            unit=unit,
            symbols=MappingProxyType(known),
            source=source,
            where=where,
            valid=valid,
            worked=MappingProxyType(arguments),
            result=worked["result"],
            chapter=chapter,
        )
        checked.formula = entry
        checked.__doc__ = _docstring(entry, function.__doc__)
        _FORMULAS[name] = entry
        return checked

    return register


def all_formulas(chapter: str | None = None) -> list[Formula]:
    """Return the registered formulas in the order of the chapters and of their source files.

    Examples
    --------
    >>> [f.name for f in all_formulas("roofline")][:2]
    ['arithmetic_intensity', 'ridge_point']
    """
    if chapter is not None and chapter not in CHAPTERS:
        raise ValueError(f"chapter: {chapter!r} is none of {CHAPTERS}")
    chosen = [f for f in _FORMULAS.values() if chapter in (None, f.chapter)]
    # the sort is stable, so each module keeps its order; chapter 1's own module comes first
    return sorted(
        chosen,
        key=lambda f: (
            CHAPTERS.index(f.chapter),
            f.function.__module__ != "helpers.formulas.roofline",
        ),
    )


def get(name: str) -> Formula:
    """Return the formula of a name.

    Raises
    ------
    KeyError
        If there is none; the message suggests the nearest names.
    """
    import difflib

    if name not in _FORMULAS:
        near = difflib.get_close_matches(str(name), _FORMULAS, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}" if near else ""
        raise UnknownName(f"name: no formula {name!r}{hint}")
    return _FORMULAS[name]


def latex_of(function: Callable) -> str:
    """Call a formula on symbols and return what it computes, as LaTeX.

    Parameters
    ----------
    function : callable
        A function decorated with :func:`formula`.

    Examples
    --------
    >>> from helpers.formulas.roofline import ridge_point
    >>> latex_of(ridge_point)
    '\\\\frac{\\\\pi}{\\\\beta}'
    """
    from .expression import variable
    from .latex import to_latex

    symbols = function.formula.symbols
    leaves = {name: variable(name, latex=symbol.latex) for name, symbol in symbols.items()}
    return to_latex(function(**leaves))


def _symbols_of(name: str, parameters: list[str], own: Mapping[str, Symbol]) -> dict[str, Symbol]:
    """Return the symbol of every argument, a formula's own before the book's."""
    stray = set(own) - set(parameters)
    if stray:
        raise ValueError(f"formula {name}: symbols: {sorted(stray)} are not arguments")
    known = {p: own.get(p, VOCABULARY.get(p)) for p in parameters}
    missing = [p for p, symbol in known.items() if symbol is None]
    if missing:
        raise ValueError(
            f"formula {name}: symbols: none for {missing}; "
            "add them to symbols= or to helpers.formulas.symbols.VOCABULARY"
        )
    return known


def _check(name: str, argument: str, value: Any, symbol: Symbol) -> None:
    """Raise unless a plain value is allowed; expressions pass, they have no value to judge."""
    if is_symbolic(value):
        return
    if isinstance(value, Quantity) and not _agrees(value.unit, symbol.unit, argument):
        raise ValueError(
            f"{name}: {argument}: {value} is in {value.unit}; it takes {symbol.unit} "
            f"({symbol.meaning})"
        )
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iuf":
            raise TypeError(f"{name}: {argument}: an array of {value.dtype} is not numeric")
        outside = value[~symbol.allows(value)]
        bad = outside[0] if outside.size else None
    elif isinstance(value, Real) and not isinstance(value, (bool, np.bool_)):
        bad = None if symbol.allows(value) else value
    else:
        raise TypeError(
            f"{name}: {argument}: {value!r} is a {type(value).__name__}; "
            "allowed are numbers, numpy arrays and expressions"
        )
    if bad is not None:
        unit = "" if symbol.unit == "1" else f", in {symbol.unit}"
        raise ValueError(
            f"{name}: {argument}: {bad} is not allowed; allowed is {symbol.allowed} "
            f"({symbol.meaning}{unit})"
        )


#: units in which an argument says what it takes; "1" and "any rate" take what comes
_STRICT = frozenset(
    {"B", "B/s", "FLOP", "FLOP/s", "FLOP/B", "bit", "s", "h", "Hz", "W", "token", "token/s", "$/h"}
)


def _agrees(have: str, wanted: str, argument: str) -> bool:
    """Tell whether a quantity in base unit ``have`` may stand where ``wanted`` is asked for."""
    if not have or wanted not in _STRICT:
        return True
    if "per_token" in argument:  # the name says it, so the symbol's unit is plain B
        have = have.removesuffix("/token")
    # integer operations take the same roofs and clocks as floating-point ones
    return re.sub("^OP", "FLOP", have).replace("USD", "$") == wanted


def _check_shapes(name: str, given: Mapping[str, Any]) -> None:
    """Raise unless the arrays among the arguments fit together."""
    shapes = {a: v.shape for a, v in given.items() if isinstance(v, np.ndarray)}
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{argument} {shape}" for argument, shape in shapes.items())
        raise ValueError(
            f"{name}: the arrays do not fit together: {listed}; allowed are equal shapes, "
            "or a length of 1 where they differ"
        ) from None


def _docstring(entry: Formula, notes: str | None) -> str:
    """Write the docstring of a formula from its record, in numpy's order of sections."""
    unit_of = {"1": "no unit"}
    lines = [f"{entry.meaning[0].upper()}{entry.meaning[1:]}.", "", "Parameters", "----------"]
    for argument, symbol in entry.symbols.items():
        lines += [
            f"{argument} : number or array, {unit_of.get(symbol.unit, symbol.unit)}",
            f"    {symbol.meaning[0].upper()}{symbol.meaning[1:]}; {symbol.allowed}.",
        ]
    lines += ["", "Returns", "-------", f"number or array, {unit_of.get(entry.unit, entry.unit)}"]
    lines += [f"    {entry.meaning[0].upper()}{entry.meaning[1:]}."]
    lines += ["", "Notes", "-----"]
    if notes:
        lines += [*inspect.cleandoc(notes).splitlines(), ""]
    lines += [f"Holds for: {entry.valid}"]
    if entry.source:
        lines += ["", "References", "----------", f"{entry.source}, {entry.where}".rstrip(", ")]
    arguments = ", ".join(f"{key}={value!r}" for key, value in entry.worked.items())
    call = f'>>> f"{{{entry.name}({arguments}):.6g}}"'
    lines += ["", "Examples", "--------", call, f"'{entry.result:.6g}'"]
    return "\n".join(lines) + "\n"
